/**
 * A watchdog over work that is silent by nature: pg_restore may build one index for hours. Silence is no sign there, waiting for a lock
 * is: in a database that nobody else uses, a session that waits longer than the stall limit waits for something that will not come.
 */
import { CellarError } from '../../errors.ts';
import { type Connection, connect } from './connection.ts';
import type { Target } from './target.ts';

export interface Watch extends AsyncDisposable {
  /** Aborted with `stalled` when a session has waited too long, and whenever the caller's own signal is. */
  readonly signal: AbortSignal;
}

/** Watches the sessions in the database of `target` until disposed. `stallTimeoutMs` 0: no limit. */
export async function watchForLocks(target: Target, stallTimeoutMs: number, signal: AbortSignal): Promise<Watch> {
  if (stallTimeoutMs === 0) return { signal, [Symbol.asyncDispose]: async () => {} };
  const stalled = new AbortController();
  const connection = await connect(target, signal);
  const everyMs = Math.min(5000, Math.max(100, stallTimeoutMs / 4));
  let asking: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    asking = asking
      .then(async () => await complainOfWaiting(connection, stallTimeoutMs))
      .catch((error: unknown) => stalled.abort(error));
  }, everyMs);
  return {
    signal: AbortSignal.any([signal, stalled.signal]),
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await asking;
      await connection[Symbol.asyncDispose]();
    },
  };
}

async function complainOfWaiting(connection: Connection, stallTimeoutMs: number): Promise<void> {
  const waitingSince = connection.serverMajor >= 14 ? 'coalesce(l.waitstart, a.query_start)' : 'a.query_start';
  const [row] = await connection.query(
    `SELECT left(a.query, 120) AS query,
            (SELECT string_agg(b.pid || ' (' || coalesce(b.application_name, '') || ')', ', ') FROM pg_stat_activity b
              WHERE b.pid = ANY (pg_blocking_pids(a.pid))) AS blockers
       FROM pg_stat_activity a
      WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
        AND clock_timestamp() - a.query_start > $1::bigint * interval '1 millisecond'
        AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted
                     AND clock_timestamp() - ${waitingSince} > $1::bigint * interval '1 millisecond')
      LIMIT 1`,
    'watch the restore for locks',
    [Math.round(stallTimeoutMs)],
  );
  if (row === undefined) return;
  throw new CellarError(
    'stalled',
    `The restore waits for a lock that session ${row['blockers'] ?? 'unknown'} holds, since ${Math.round(stallTimeoutMs / 1000)} seconds: ${row['query'] ?? ''}`,
    { hint: 'End that session, or allow a longer silence.', retryable: true },
  );
}
