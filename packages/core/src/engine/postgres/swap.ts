/**
 * Puts a loaded database in the place of the live one, atomically, and keeps the live one under another name.
 *
 *   scratch marked `swapping` ─▶ live closed for connections ─▶ its sessions ended
 *     ─▶ one transaction: live → previous, scratch → live, previous open again, final comment ─▶ done
 *
 * A failure before the commit opens the live database again. A crash in between leaves it closed and the mark on the scratch database
 * says so: the next restore opens it (`cleanUpAfterCrash`), or a person does with ALTER DATABASE … ALLOW_CONNECTIONS true.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { CellarError, isCellarError } from '../../errors.ts';
import type { RestoreReport } from '../engine.ts';
import type { Connection } from './connection.ts';
import { previousName, setAsideName } from './database-names.ts';
import { connectBeside, markScratch } from './scratch.ts';
import type { Target } from './target.ts';

export interface SwapPlan {
  /** Names the live database. */
  readonly target: Target;
  readonly scratch: string;
  /** Of the live database, for the one that takes its name. */
  readonly comment: string | undefined;
  readonly now: Date;
}

/** How long sessions that were told to end may take. */
const SESSIONS_END_MS = 20_000;

/** What stands against the swap already before anything is loaded. Throws `conflict`; returns what the person should know. */
export async function checkSwappable(admin: Connection, database: string): Promise<readonly string[]> {
  const [live] = await admin.query(
    'SELECT datallowconn AS open FROM pg_database WHERE datname = $1',
    'look at the database',
    [database],
  );
  if (live?.['open'] === 'f') {
    throw new CellarError('conflict', `${database} does not accept connections, so it may be in somebody's hands.`, {
      hint: `When that is not wanted: ALTER DATABASE ${pg.escapeIdentifier(database)} ALLOW_CONNECTIONS true`,
    });
  }
  await refusePrepared(admin, database);
  const slots = await admin.query(
    'SELECT slot_name AS name FROM pg_replication_slots WHERE database = $1',
    'list replication slots',
    [database],
  );
  const subscriptions = await admin.query(
    'SELECT s.subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = $1',
    'list subscriptions',
    [database],
  );
  return [
    ...slots.map(
      ({ name }) =>
        `The replication slot ${name ?? ''} belongs to the replaced database and stays with it: consumers must be set up anew on the restored one.`,
    ),
    ...subscriptions.map(
      ({ name }) =>
        `The subscription ${name ?? ''} of the replaced database goes on there; in the restored one it is disabled. Disable the old one before you enable the new.`,
    ),
  ];
}

async function refusePrepared(admin: Connection, database: string): Promise<void> {
  const prepared = await admin.query(
    'SELECT gid FROM pg_prepared_xacts WHERE database = $1',
    'look for prepared transactions',
    [database],
  );
  if (prepared.length === 0) return;
  throw new CellarError(
    'conflict',
    `${database} has ${prepared.length} prepared transactions, so it cannot be renamed.`,
    {
      hint: 'COMMIT PREPARED or ROLLBACK PREPARED them (see pg_prepared_xacts), then restore again.',
      details: { transactions: prepared.map(({ gid }) => gid ?? '') },
    },
  );
}

/** Swaps. Not to be aborted half-way, hence no signal; takes seconds. Returns how the replaced database is called and got back. */
export async function swapIn(plan: SwapPlan): Promise<NonNullable<RestoreReport['previous']>> {
  const live = plan.target.database;
  const uninterrupted = new AbortController().signal;
  await using admin = await connectBeside(plan.target, uninterrupted);
  const previous = await freeName(admin, live, plan.now);
  const name = {
    live: pg.escapeIdentifier(live),
    scratch: pg.escapeIdentifier(plan.scratch),
    previous: pg.escapeIdentifier(previous),
  };
  const scratchOid = await oidOf(admin, plan.scratch);

  await markScratch(admin, plan.scratch, { target: live, state: 'swapping' });
  try {
    await admin.query(`ALTER DATABASE ${name.live} ALLOW_CONNECTIONS false`, `close ${live} for connections`);
    await endSessions(admin, live);
    await refusePrepared(admin, live);
    // One message is one transaction. Its commit is flushed, and with it all that was loaded without waiting for the disk.
    await admin.query('SET synchronous_commit = on', 'prepare the swap');
    await admin.query(
      [
        'BEGIN',
        `ALTER DATABASE ${name.live} RENAME TO ${name.previous}`,
        `ALTER DATABASE ${name.scratch} RENAME TO ${name.live}`,
        `ALTER DATABASE ${name.previous} ALLOW_CONNECTIONS true`,
        `COMMENT ON DATABASE ${name.live} IS ${plan.comment === undefined ? 'NULL' : pg.escapeLiteral(plan.comment)}`,
        'COMMIT',
      ].join(';'),
      `put the restored database in the place of ${live}`,
    );
  } catch (error) {
    if (!(await undoClosing(plan.target, scratchOid))) throw whyNotSwapped(error, live);
  }
  return { database: previous, ...waysBack(live, previous, plan.now) };
}

/**
 * After a failure: opens the live database again, over a connection of its own, since the first may be what failed.
 * True when the swap turns out to have been committed after all: the answer was lost, not the work.
 */
async function undoClosing(target: Target, scratchOid: string): Promise<boolean> {
  const live = target.database;
  try {
    await using admin = await connectBeside(target, AbortSignal.timeout(30_000));
    if ((await oidOf(admin, live)) === scratchOid) return true;
    await admin.query(`ALTER DATABASE ${pg.escapeIdentifier(live)} ALLOW_CONNECTIONS true`, `open ${live} again`);
    // That waited for a commit that was still under way when its connection was cut.
    return (await oidOf(admin, live)) === scratchOid;
  } catch (error) {
    throw new CellarError(
      'database-failed',
      `The swap failed, and ${live} could not be opened for connections again.`,
      {
        hint: `As soon as the server answers, run: ALTER DATABASE ${pg.escapeIdentifier(live)} ALLOW_CONNECTIONS true; (the next restore into it does so too).`,
        cause: error,
      },
    );
  }
}

function whyNotSwapped(error: unknown, live: string): unknown {
  // 55006: object in use.
  if (isCellarError(error) && error.details['sqlState'] === '55006') {
    return new CellarError('conflict', `${live} was not replaced: sessions are using it that could not be ended.`, {
      hint: 'End them (pg_stat_activity; a superuser may have to), then restore again.',
      cause: error,
    });
  }
  return error;
}

async function oidOf(admin: Connection, database: string): Promise<string> {
  const [row] = await admin.query('SELECT oid FROM pg_database WHERE datname = $1', 'look at the database', [database]);
  return row?.['oid'] ?? '';
}

async function freeName(admin: Connection, live: string, now: Date): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const name = previousName(live, now, attempt);
    if ((await oidOf(admin, name)) === '') return name;
  }
}

async function endSessions(admin: Connection, database: string): Promise<void> {
  const deadline = performance.now() + SESSIONS_END_MS;
  for (;;) {
    // Autovacuum ends by itself when the rename asks for it, and nobody may end it otherwise.
    const [row] = await admin.query(
      `SELECT count(*) AS sessions FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`,
      'look for sessions',
      [database],
    );
    if (row?.['sessions'] === '0') return;
    await endThem(admin, database);
    if (performance.now() > deadline) {
      throw new CellarError(
        'conflict',
        `${database} was not replaced: ${row?.['sessions'] ?? ''} sessions in it do not end.`,
        {
          hint: 'End them (pg_stat_activity), then restore again.',
        },
      );
    }
    await delay(20);
  }
}

async function endThem(admin: Connection, database: string): Promise<void> {
  try {
    await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`,
      'end the sessions',
      [database],
    );
  } catch (error) {
    if (!isCellarError(error, 'database-privilege')) throw error;
    throw new CellarError('database-privilege', `The sessions in ${database} may not be ended by this user.`, {
      hint: 'Grant it pg_signal_backend, connect as a superuser, or stop the applications that use the database.',
      cause: error,
    });
  }
}

/** SQL for a person, to be run from another database, one statement after the other. */
function waysBack(
  live: string,
  previous: string,
  now: Date,
): { readonly goBack: readonly string[]; readonly remove: readonly string[] } {
  const name = {
    live: pg.escapeIdentifier(live),
    previous: pg.escapeIdentifier(previous),
    aside: pg.escapeIdentifier(setAsideName(live, now)),
  };
  return {
    goBack: [
      `ALTER DATABASE ${name.live} ALLOW_CONNECTIONS false`,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (${pg.escapeLiteral(live)}, ${pg.escapeLiteral(previous)})`,
      'BEGIN',
      `ALTER DATABASE ${name.live} RENAME TO ${name.aside}`,
      `ALTER DATABASE ${name.previous} RENAME TO ${name.live}`,
      `ALTER DATABASE ${name.aside} ALLOW_CONNECTIONS true`,
      'COMMIT',
    ],
    remove: [`DROP DATABASE ${name.previous}`],
  };
}
