/**
 * Restores within one transaction on one connection: all of it or, whatever happens (an error, an abort, a crash of either side),
 * nothing. The rows are compared before the COMMIT.
 */
import { CellarError, isCellarError } from '../../errors.ts';
import type { RestoredTable } from '../engine.ts';
import type { TocEntry } from './archive.ts';
import { type Connection, connect } from './connection.ts';
import { type DefinitionOptions, definitionsSql } from './definitions.ts';
import { digestOn } from './digest-restored.ts';
import { isRowRefusal, LoadProgress, loadTable, prepareLoadSession } from './load.ts';
import type { Phases } from './phases.ts';
import { runRawSql } from './raw-statement.ts';
import type { StoredArchive, StoredRows } from './stored-archive.ts';
import type { Target } from './target.ts';
import {
  checkedTables,
  compareDigests,
  countTable,
  restoredTable,
  rowsBefore,
  storedDigest,
  tellTable,
} from './verify-restored.ts';

export interface TransactionOptions {
  readonly stallTimeoutMs: number;
  readonly prove: boolean;
}

/** Restores into the one open transaction. */
export interface RestoreTransaction {
  /** In UTF-8, for statements with names of ours. */
  readonly connection: Connection;
  /** Definitions as SQL, in the dump's encoding. */
  define(entries: readonly TocEntry[], options: DefinitionOptions): Promise<void>;
  load(tables: readonly StoredRows[], phases: Phases): Promise<void>;
  /** Counts, and digests with `prove`. Throws `mismatch`. */
  compare(tables: readonly StoredRows[], phases: Phases): Promise<readonly RestoredTable[]>;
}

/** Commits when `work` has ended well, durably; else rolls back. */
export async function inOneTransaction<T>(
  target: Target,
  stored: StoredArchive,
  options: TransactionOptions,
  signal: AbortSignal,
  work: (transaction: RestoreTransaction) => Promise<T>,
): Promise<T> {
  // Whatever ends this connection before its COMMIT rolls everything back.
  await using connection = await connect(target, signal);
  await prepareLoadSession(connection, stored, signal);
  const useOwnEncoding = async () => await connection.query(`SET client_encoding = 'UTF8'`, 'set the encoding');
  await useOwnEncoding();
  await connection.query('BEGIN', 'begin the transaction');
  const transactionId = await currentTransaction(connection);
  const digests = new Map<string, string>();
  let before: ReadonlyMap<string, number> = new Map();

  const inDumpEncoding = async (inner: () => Promise<void>) => {
    await prepareLoadSession(connection, stored, signal);
    await inner();
    await useOwnEncoding();
  };

  const result = await work({
    connection,
    async define(entries, definition) {
      const sql = await definitionsSql(stored, entries, definition, signal);
      if (sql.length === 0) return;
      await inDumpEncoding(async () => await runRawSql(connection, sql, 'put back the definitions', signal));
    },
    async load(tables, phases) {
      before = await rowsBefore(connection, tables);
      const progress = new LoadProgress(tables, phases.onProgress);
      const load = { stallTimeoutMs: options.stallTimeoutMs, digest: options.prove, fresh: false };
      await inDumpEncoding(async () => {
        let waiting = [...tables];
        while (waiting.length > 0) {
          const refused: { readonly table: StoredRows; readonly error: CellarError }[] = [];
          for (const table of waiting) {
            await connection.query('SAVEPOINT cellar_table', 'set a savepoint');
            try {
              await loadTable(connection, stored, table, load, progress, digests, signal);
              await connection.query('RELEASE SAVEPOINT cellar_table', 'release the savepoint');
            } catch (error) {
              if (!isCellarError(error) || !isRowRefusal(error)) throw error;
              await connection.query('ROLLBACK TO SAVEPOINT cellar_table', 'go back to the savepoint');
              progress.takeBack(table);
              refused.push({ table, error });
            }
          }
          const [first] = refused;
          // A round in which nothing came in: the rows are refused for themselves.
          if (first !== undefined && refused.length === waiting.length) throw first.error;
          waiting = refused.map(({ table }) => table);
        }
      });
    },
    async compare(tables, phases) {
      const checked = await checkedTables(connection, tables);
      const restored: RestoredTable[] = [];
      for (const table of checked) {
        const rows = await countTable(connection, table, before);
        const digest = options.prove ? storedDigest(table, digests) : undefined;
        const found = digest === undefined ? undefined : await digestOn(connection, stored, table, signal);
        if (digest !== undefined && found !== undefined) compareDigests(table.table, digest, found);
        restored.push(restoredTable(table, rows, found));
        tellTable(phases.onProgress, 'compare', restored.length, checked.length, table.table);
      }
      return restored;
    },
  });
  await commit(connection, transactionId);
  return result;
}

async function commit(connection: Connection, transactionId: string): Promise<void> {
  // What follows is told to people as done, so it waits for the disk.
  await connection.query('SET LOCAL synchronous_commit = on', 'prepare the commit');
  if ((await currentTransaction(connection)) !== transactionId) {
    throw new CellarError('mismatch', 'The transaction of the restore was ended by something within the backup.');
  }
  await connection.query('COMMIT', 'commit the restore');
}

async function currentTransaction(connection: Connection): Promise<string> {
  const [row] = await connection.query('SELECT pg_current_xact_id() AS id', 'look at the transaction');
  return row?.['id'] ?? '';
}
