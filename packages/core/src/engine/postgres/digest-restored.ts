/** The digest of a restored table's rows, read back by COPY with the settings of a dump and the column list of the backup. */
import { cancelled, throwIfAborted } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { type CopyConnection, openCopyConnection } from './copy-out.ts';
import { statementError } from './database-error.ts';
import { RawQuery } from './raw-statement.ts';
import { RowDigest } from './row-digest.ts';
import { type StoredArchive, storedText } from './stored-archive.ts';
import type { Target } from './target.ts';
import { type CheckedTable, quotedName, showName } from './verify-restored.ts';

/** Digests tables over connections that it opens as it needs them, and keeps until it is disposed. */
export class RestoredDigests implements AsyncDisposable {
  readonly #target: Target;
  readonly #stored: StoredArchive;
  readonly #stallTimeoutMs: number;
  readonly #signal: AbortSignal;
  readonly #free: CopyConnection[] = [];
  readonly #all: CopyConnection[] = [];

  constructor(target: Target, stored: StoredArchive, stallTimeoutMs: number, signal: AbortSignal) {
    this.#target = target;
    this.#stored = stored;
    this.#stallTimeoutMs = stallTimeoutMs;
    this.#signal = signal;
  }

  /** undefined where the stored parts have their columns in different orders, so that their rows cannot be read back as one. */
  async digest(checked: CheckedTable): Promise<string | undefined> {
    const statement = copyOutStatement(this.#stored, checked);
    if (statement === undefined) return undefined;
    const connection = this.#free.pop() ?? (await this.#open());
    const digest = new RowDigest();
    const { bytes } = connection.copy(statement, showName(checked.table));
    for await (const some of bytes) digest.update(some);
    this.#free.push(connection);
    return digest.end();
  }

  async #open(): Promise<CopyConnection> {
    const connection = await openCopyConnection(
      {
        target: this.#target,
        snapshotId: undefined,
        encoding: 'UTF8',
        lockTimeoutMs: 0,
        stallTimeoutMs: this.#stallTimeoutMs,
      },
      this.#signal,
    );
    this.#all.push(connection);
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#all) await connection[Symbol.asyncDispose]();
  }
}

/**
 * The same within a transaction that nobody else can see into, on its own connection. Slower, since the driver takes the rows one
 * by one.
 */
export async function digestOn(
  connection: Connection,
  stored: StoredArchive,
  checked: CheckedTable,
  signal: AbortSignal,
): Promise<string | undefined> {
  const statement = copyOutStatement(stored, checked);
  if (statement === undefined) return undefined;
  throwIfAborted(signal);
  await connection.query(OUTPUT_SETTINGS, 'prepare to read the rows back');
  const digest = new RowDigest();
  const query = new RawQuery(Buffer.from(statement), (row) => digest.update(row));
  connection.client.query(query);
  try {
    await query.done;
  } catch (error) {
    throw signal.aborted ? cancelled(signal) : statementError(error, `read ${showName(checked.table)} back`);
  }
  return digest.end();
}

const OUTPUT_SETTINGS = [
  "SET LOCAL datestyle = 'ISO'",
  "SET LOCAL intervalstyle = 'postgres'",
  'SET LOCAL extra_float_digits = 3',
  "SET LOCAL timezone = 'UTC'",
  "SET LOCAL bytea_output = 'hex'",
].join(';');

/** In UTF-8; what it sends is in the encoding of the backup. */
function copyOutStatement(stored: StoredArchive, checked: CheckedTable): string | undefined {
  const lists = new Set(
    checked.stored.map(({ copyStatement, copyTarget }) => columnList(stored, copyStatement, copyTarget)),
  );
  const [columns] = lists;
  if (columns === undefined || lists.size > 1) return undefined;
  const name = quotedName(checked.table);
  // COPY of a table takes its own rows only; of a partition root it has to be a query.
  const rows = checked.throughRoot ? `(SELECT ${columns.slice(1, -1)} FROM ${name})` : `${name} ${columns}`;
  return `COPY ${rows} TO STDOUT WITH (ENCODING '${stored.encoding.replaceAll("'", '')}')`;
}

/** `(id, name)` of `COPY shop.orders (id, name) FROM stdin;`, or '' where there is none. */
function columnList(stored: StoredArchive, statement: Buffer, target: Buffer): string {
  const list = statement.subarray('COPY '.length + target.length, statement.length - 'FROM stdin;\n'.length);
  return storedText(stored, list).trim();
}
