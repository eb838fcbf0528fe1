/**
 * The coordinator of a dump: one connection that locks every table against changes of shape, then takes and exports the one
 * snapshot that pg_dump and all copying connections read by, and holds both to the end.
 *
 *   list tables ─▶ BEGIN ─▶ LOCK … ACCESS SHARE ─▶ export the snapshot ─▶ list again: all locked? ─▶ held ─▶ disposed
 *        ▲                                                                     │ no: a table came or went
 *        ╰───────────────────────────── ROLLBACK ◀────────────────────────────╯
 *
 * The order matters. TRUNCATE and rewriting ALTER TABLE are not versioned: were the snapshot taken before the lock, a TRUNCATE in
 * between would leave an empty table in the backup, and nobody would say so. LOCK TABLE itself takes no snapshot.
 */
import { CellarError, cancelled } from '../../errors.ts';
import type { DumpFilters } from '../engine.ts';
import { type Connection, connect } from './connection.ts';
import { sqlStateOf, statementError } from './database-error.ts';
import { listTables, type SourceTable } from './tables.ts';
import type { Target } from './target.ts';

export interface Snapshot extends AsyncDisposable {
  readonly connection: Connection;
  /** For SET TRANSACTION SNAPSHOT and `pg_dump --snapshot`. */
  readonly id: string;
  /** As the snapshot sees them, each locked. */
  readonly tables: readonly SourceTable[];
  /** Aborted with the reason when the connection, and with it the view, is lost. */
  readonly lost: AbortSignal;
  /** Throws when the view is no longer the one that was opened. */
  verifyHeld(): Promise<void>;
}

export interface SnapshotOptions {
  readonly filters: DumpFilters;
  readonly lockTimeoutMs: number;
}

/** How often a table may come or go between listing and locking before it is called impossible. */
const ATTEMPTS = 5;
/** Tables in one LOCK statement: few round trips, and a statement of bounded length. */
const LOCK_CHUNK = 500;

/** Waits of the server that would end an idle or long transaction; each since a major version. */
const TIMEOUTS: readonly { readonly name: string; readonly since: number }[] = [
  { name: 'statement_timeout', since: 0 },
  { name: 'idle_in_transaction_session_timeout', since: 0 },
  { name: 'idle_session_timeout', since: 14 },
  { name: 'transaction_timeout', since: 17 },
];

/** Statements that turn off every time limit of the server for a session. */
export function withoutTimeouts(serverMajor: number): string {
  return TIMEOUTS.filter(({ since }) => serverMajor >= since)
    .map(({ name }) => `SET ${name} = 0;`)
    .join(' ');
}

/**
 * Throws `database-locked` naming the table and who holds it, or `database-privilege` naming what may not be read.
 */
export async function openSnapshot(target: Target, options: SnapshotOptions, signal: AbortSignal): Promise<Snapshot> {
  const connection = await connect(target, signal);
  try {
    const lockTimeout = Math.max(0, Math.round(options.lockTimeoutMs));
    await connection.query(
      `${withoutTimeouts(connection.serverMajor)} SET lock_timeout = ${lockTimeout}; SET row_security = off`,
      'prepare the session',
    );
    for (let attempt = 1; ; attempt++) {
      const candidates = await listTables(connection, options.filters, 'estimated');
      refuseUnreadable(candidates);
      await connection.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', 'begin a transaction');
      const locked = await lockTables(connection, candidates, options.lockTimeoutMs, signal);
      if (locked) {
        const [row] = await connection.query('SELECT pg_catalog.pg_export_snapshot() AS id', 'export a snapshot');
        const tables = await listTables(connection, options.filters, 'exact');
        if (await allLocked(connection, tables)) return hold(connection, row?.['id'] ?? '', tables);
      }
      await connection.query('ROLLBACK', 'begin anew');
      if (attempt === ATTEMPTS) {
        throw new CellarError('database-locked', 'The set of tables kept changing while Cellar tried to lock it.', {
          hint: 'Tables are created and dropped all the time: leave those out with a filter, or try again when it is quieter.',
          retryable: true,
        });
      }
    }
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
}

function hold(connection: Connection, id: string, tables: readonly SourceTable[]): Snapshot {
  return {
    connection,
    id,
    tables,
    lost: connection.lost,
    async verifyHeld() {
      if (connection.lost.aborted) throw cancelled(connection.lost);
      // Outside of a block, or in a failed one, the isolation level would not be this.
      const [row] = await connection.query(
        "SELECT pg_catalog.current_setting('transaction_isolation') AS level, pg_catalog.current_setting('transaction_read_only') AS ro",
        'confirm that the snapshot was held',
      );
      if (row?.['level'] !== 'repeatable read' || row['ro'] !== 'on') {
        throw new CellarError('database-failed', 'The transaction that held the snapshot ended before the dump did.', {
          retryable: true,
        });
      }
    },
    async [Symbol.asyncDispose]() {
      await connection[Symbol.asyncDispose]();
    },
  };
}

/** False when a table has gone since it was listed. */
async function lockTables(
  connection: Connection,
  tables: readonly SourceTable[],
  lockTimeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  for (let start = 0; start < tables.length; start += LOCK_CHUNK) {
    const chunk = tables.slice(start, start + LOCK_CHUNK);
    const names = chunk.map((table) => `ONLY ${table.qualifiedName}`).join(', ');
    try {
      await connection.client.query(`LOCK TABLE ${names} IN ACCESS SHARE MODE`);
    } catch (error) {
      if (signal.aborted) throw cancelled(signal);
      const state = sqlStateOf(error);
      // Undefined table, invalid schema, or no longer a table.
      if (state === '42P01' || state === '3F000' || state === '42809') return false;
      if (state === '55P03') throw await lockedError(connection, chunk, lockTimeoutMs, error);
      throw statementError(error, 'lock the tables');
    }
  }
  return true;
}

async function allLocked(connection: Connection, tables: readonly SourceTable[]): Promise<boolean> {
  const rows = await connection.query(
    "SELECT relation FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND granted AND mode = 'AccessShareLock'",
    'see the locks taken',
  );
  const locked = new Set(rows.map((row) => Number(row['relation'])));
  return tables.every((table) => locked.has(table.oid));
}

/** Who keeps the lock, as far as this user may see: asked on the same connection, its transaction having failed. */
async function lockedError(
  connection: Connection,
  tables: readonly SourceTable[],
  lockTimeoutMs: number,
  cause: unknown,
): Promise<CellarError> {
  await connection.query('ROLLBACK', 'give up the locks');
  const holders = await connection.query(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, l.pid, l.granted, a.usename AS user_name,
       a.application_name, a.state, a.xact_start
     FROM pg_catalog.pg_locks l
     JOIN pg_catalog.pg_class c ON c.oid = l.relation
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1::oid[])
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
     ORDER BY l.granted DESC, a.xact_start`,
    'find who holds the lock',
    [`{${tables.map((table) => table.oid).join(',')}}`],
  );
  const seconds = lockTimeoutMs / 1000;
  const holder = holders[0];
  const waited = `a lock on ${holder?.['name'] ?? 'the tables'} was not granted within ${seconds} s`;
  const who =
    holder === undefined
      ? ''
      : `: session ${holder['pid'] ?? '?'} (user ${holder['user_name'] ?? '?'}${holder['application_name'] ? `, ${holder['application_name']}` : ''}${holder['state'] ? `, ${holder['state']}` : ''}) ${holder['granted'] === 't' ? 'holds it exclusively' : 'waits for it exclusively'}`;
  return new CellarError('database-locked', `The dump could not start: ${waited}${who}.`, {
    hint:
      holder === undefined
        ? 'Try again, or allow a longer lock timeout.'
        : `Wait for that session, end it with SELECT pg_terminate_backend(${holder['pid'] ?? '?'}), or allow a longer lock timeout.`,
    retryable: true,
    cause,
    details: {
      tables: [...new Set(holders.map((row) => row['name']))],
      sessions: holders.map((row) => Number(row['pid'])),
    },
  });
}

function refuseUnreadable(tables: readonly SourceTable[]): void {
  const nameless = tables.filter(({ qualifiedName }) => qualifiedName.includes('\uFFFD'));
  if (nameless.length > 0) {
    throw new CellarError('invalid-input', `The names of these tables are not text in UTF-8: ${someNames(nameless)}.`, {
      hint: 'In a database encoded in SQL_ASCII names may be any bytes: rename these tables, or leave them out with a filter.',
    });
  }
  const unreadable = tables.filter((table) => !table.readable);
  if (unreadable.length > 0) {
    throw new CellarError('database-privilege', `This user may not read ${someNames(unreadable)}.`, {
      hint: 'Grant it pg_read_all_data (PostgreSQL 14 and later), or SELECT on the tables and USAGE on their schemas; or leave them out with a filter.',
      details: { tables: unreadable.map((table) => table.qualifiedName) },
    });
  }
  const hidden = tables.filter((table) => table.withData && table.rowsHidden);
  if (hidden.length > 0) {
    throw new CellarError(
      'database-privilege',
      `Row security would hide rows of ${someNames(hidden)} from this user.`,
      {
        hint: 'Connect as a user with BYPASSRLS, a superuser, or the owner (without FORCE ROW LEVEL SECURITY); or leave the rows out with a filter.',
        details: { tables: hidden.map((table) => table.qualifiedName) },
      },
    );
  }
}

export function someNames(tables: readonly SourceTable[]): string {
  const shown = tables.slice(0, 5).map((table) => table.qualifiedName);
  return tables.length > shown.length
    ? `${shown.join(', ')} and ${tables.length - shown.length} more`
    : shown.join(', ');
}
