/**
 * Loads stored rows over several connections at once, the largest tables first. A table that the server refuses is tried again when
 * the others are in, alone and in the order of the archive: a CHECK may read another table, which is there only then.
 */
import { CellarError, isCellarError } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import { type Connection, connect } from './connection.ts';
import { copyIn } from './copy-in.ts';
import { inParallel } from './in-parallel.ts';
import { runRawSql } from './raw-statement.ts';
import { RowDigest } from './row-digest.ts';
import { copyWith, type StoredArchive, type StoredRows } from './stored-archive.ts';
import type { Target } from './target.ts';

export interface LoadOptions {
  readonly jobs: number;
  readonly stallTimeoutMs: number;
  /** Digest the rows while they pass. */
  readonly digest: boolean;
  /**
   * The tables are new, empty, and seen by nobody else: rows may be written as already frozen, which spares the index builds and
   * counts that follow a rewrite of every page.
   */
  readonly fresh: boolean;
  readonly onLoaded?: (table: StoredRows) => void;
  /** Called by connections that have nothing left to load while others have, for as long as it returns true. */
  readonly idle?: (signal: AbortSignal) => Promise<boolean>;
}

/** Digests of the stored streams, by entry name; empty without `digest`. */
export type StoredDigests = ReadonlyMap<string, string>;

/** Below this a table gains nothing from being written frozen. */
const FREEZE_BYTES = 256 * 1024;

/** What pg_restore sets for its own session, and what speeds up a load that nobody relies on before it is swapped in. */
export function loadSessionSql(serverMajor: number): string {
  return [
    'SET statement_timeout = 0',
    'SET lock_timeout = 0',
    'SET idle_in_transaction_session_timeout = 0',
    ...(serverMajor >= 14 ? ['SET idle_session_timeout = 0'] : []),
    ...(serverMajor >= 17 ? ['SET transaction_timeout = 0'] : []),
    'SET check_function_bodies = false',
    'SET xmloption = content',
    'SET client_min_messages = warning',
    'SET row_security = off',
    'SET default_transaction_read_only = off',
    // The swap's own commit is synchronous, and a flush of the log covers all that was written before it.
    'SET synchronous_commit = off',
  ].join(';');
}

/** Sets the session up as the archive's own beginning says: encoding, string syntax, search path; then the above. */
export async function prepareLoadSession(
  connection: Connection,
  stored: StoredArchive,
  signal: AbortSignal,
): Promise<void> {
  await connection.query(loadSessionSql(connection.serverMajor), 'prepare the session');
  for (const entry of stored.toc.entries.slice(0, 3)) {
    if (entry.definition !== null) await runRawSql(connection, entry.definition, 'prepare the session', signal);
  }
}

/** Loads all `tables` into the database of `target`, or throws; each table's rows come in one transaction of their own. */
export async function loadRows(
  target: Target,
  stored: StoredArchive,
  tables: readonly StoredRows[],
  options: LoadOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<StoredDigests> {
  const digests = new Map<string, string>();
  const progress = new LoadProgress(tables, onProgress);
  const inTocOrder = tables.filter((table) => !isKnownEmpty(table));
  const largestFirst = inTocOrder.toSorted((a, b) => weight(b) - weight(a));
  const refused = new Map<StoredRows, CellarError>();
  const open = async (own: AbortSignal) => {
    const connection = await connect(target, own);
    await prepareLoadSession(connection, stored, own);
    return connection;
  };
  const load = async (connection: Connection, table: StoredRows, own: AbortSignal) => {
    await loadTable(connection, stored, table, options, progress, digests, own);
    options.onLoaded?.(table);
  };

  const tryToLoad = async (connection: Connection, table: StoredRows, own: AbortSignal) => {
    try {
      await load(connection, table, own);
    } catch (error) {
      if (!mayPassLater(error)) throw error;
      refused.set(table, error);
      progress.takeBack(table);
    }
  };
  await inParallel(largestFirst, options.jobs, open, signal, tryToLoad, options.idle);

  if (refused.size > 0) {
    await using connection = await open(signal);
    let waiting = inTocOrder.filter((table) => refused.has(table));
    while (waiting.length > 0) {
      const still: StoredRows[] = [];
      for (const table of waiting) {
        try {
          await load(connection, table, signal);
        } catch (error) {
          if (!mayPassLater(error)) throw error;
          refused.set(table, error);
          progress.takeBack(table);
          still.push(table);
        }
      }
      // A round in which nothing came in: the rows are refused for themselves.
      const [first] = still;
      if (first !== undefined && still.length === waiting.length) throw refused.get(first);
      waiting = still;
    }
  }
  for (const table of tables)
    if (isKnownEmpty(table) && options.digest) digests.set(table.entry.name, new RowDigest().end());
  return digests;
}

/** Loads one table's rows on a connection prepared by `prepareLoadSession`, in its transaction if there is one. */
export async function loadTable(
  connection: Connection,
  stored: StoredArchive,
  table: StoredRows,
  options: Pick<LoadOptions, 'stallTimeoutMs' | 'digest' | 'fresh'>,
  progress: LoadProgress,
  digests: Map<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const digest = options.digest ? new RowDigest() : undefined;
  const rows = await copyIn(
    connection,
    statementFor(table, options.fresh),
    stored.contents.open(table.entry, signal),
    {
      title: table.entry.name,
      stallTimeoutMs: options.stallTimeoutMs,
      onBytes: (bytes) => {
        digest?.update(bytes);
        progress.add(table, bytes.length);
      },
    },
    signal,
  );
  if (rows !== table.expectedRows) {
    throw new CellarError(
      'mismatch',
      `Of ${table.entry.name} ${rows} rows were loaded, but the backup holds ${table.expectedRows}.`,
      { hint: 'Nothing was replaced. Run `cellar verify` on the backup.', details: { entry: table.entry.name } },
    );
  }
  if (digest !== undefined) digests.set(table.entry.name, digest.end());
  progress.loaded(table);
}

/**
 * One message of two statements is one transaction to the server. TRUNCATE is what COPY demands before it writes frozen rows; it is
 * done only to tables that the archive itself has just created, never to an extension's, which has rows of its own.
 */
function statementFor(table: StoredRows, fresh: boolean): Buffer {
  const worthIt = (table.size ?? Number.POSITIVE_INFINITY) >= FREEZE_BYTES;
  if (!fresh || !worthIt || table.viaRoot || table.tableEntry === undefined || !isPlainTable(table)) {
    return table.copyStatement;
  }
  return Buffer.concat([
    Buffer.from('TRUNCATE ONLY ', 'latin1'),
    table.copyTarget,
    Buffer.from('; ', 'latin1'),
    copyWith(table.copyStatement, 'WITH (FREEZE)'),
  ]);
}

function isPlainTable(table: StoredRows): boolean {
  const definition = table.tableEntry?.definition?.toString('latin1') ?? '';
  return !/^CREATE FOREIGN TABLE/m.test(definition);
}

function isKnownEmpty(table: StoredRows): boolean {
  return table.expectedRows === 0 && table.size === 0;
}

function weight(table: StoredRows): number {
  return table.size ?? table.expectedRows * 64;
}

function mayPassLater(error: unknown): error is CellarError {
  return isCellarError(error) && isRowRefusal(error);
}

/** The server refused the rows themselves (a constraint, a function's own error): other tables' rows may change its mind. */
export function isRowRefusal(error: CellarError): boolean {
  const state = error.details['sqlState'];
  return typeof state === 'string' && /^(22|23|2F|38|39|42|P0)/.test(state);
}

/** Adds up what has been read of all tables. */
export class LoadProgress {
  readonly #onProgress: OnProgress;
  readonly #total: number | undefined;
  readonly #tables: number;
  readonly #bytesOf = new Map<StoredRows, number>();
  #bytes = 0;
  #highest = 0;
  #rows = 0;
  #done = 0;
  #told = 0;

  constructor(tables: readonly StoredRows[], onProgress: OnProgress) {
    this.#onProgress = onProgress;
    this.#tables = tables.length;
    const sizes = tables.map(({ size }) => size);
    this.#total = sizes.every((size) => size !== undefined)
      ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0)
      : undefined;
  }

  add(table: StoredRows, bytes: number): void {
    this.#bytesOf.set(table, (this.#bytesOf.get(table) ?? 0) + bytes);
    this.#bytes += bytes;
    // Not for each piece: whoever draws has other work to do.
    if (this.#bytes - this.#told >= 4 * 1024 * 1024) this.#tell(table);
  }

  loaded(table: StoredRows): void {
    this.#rows += table.expectedRows;
    this.#done += 1;
    this.#tell(table);
  }

  /** The table will be loaded again. */
  takeBack(table: StoredRows): void {
    this.#bytes -= this.#bytesOf.get(table) ?? 0;
    this.#bytesOf.delete(table);
  }

  #tell(table: StoredRows): void {
    this.#told = this.#bytes;
    // Counters only grow within a phase, also when a table has to be read twice.
    this.#highest = Math.max(this.#highest, this.#bytes);
    this.#onProgress({
      phase: 'load',
      item: table.entry.name,
      bytes: this.#highest,
      ...(this.#total === undefined ? {} : { totalBytes: this.#total }),
      rows: this.#rows,
      done: this.#done,
      total: this.#tables,
      exact: this.#total !== undefined,
    });
  }
}
