/** The digest of a restored table's rows, read back by COPY with the settings of a dump and the column list of the backup. */
import { cancelled, throwIfAborted } from '../../errors.ts';
import { archiveText } from './archive.ts';
import type { Connection } from './connection.ts';
import { openCopyConnection } from './copy-out.ts';
import { statementError } from './database-error.ts';
import { RawQuery } from './raw-statement.ts';
import { RowDigest } from './row-digest.ts';
import type { StoredArchive } from './stored-archive.ts';
import type { Target } from './target.ts';
import { type CheckedTable, quotedName, showName } from './verify-restored.ts';

/** undefined where the stored parts have their columns in different orders, so that their rows cannot be read back as one. */
export async function digestRestored(
  target: Target,
  stored: StoredArchive,
  checked: CheckedTable,
  stallTimeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const lists = new Set(checked.stored.map(({ copyStatement, copyTarget }) => columnList(copyStatement, copyTarget)));
  const [columns] = lists;
  if (columns === undefined || lists.size > 1) return undefined;
  await using connection = await openCopyConnection(
    { target, snapshotId: undefined, encoding: dumpEncoding(stored), lockTimeoutMs: 0, stallTimeoutMs },
    signal,
  );
  const digest = new RowDigest();
  const { bytes } = connection.copy(copyOutStatement(checked, columns), showName(checked.table));
  for await (const some of bytes) digest.update(some);
  return digest.end();
}

/**
 * The same within a transaction that nobody else can see into: on its own connection, in UTF-8 or the dump's encoding as need be.
 * Slower, since the driver takes the rows one by one.
 */
export async function digestOn(
  connection: Connection,
  stored: StoredArchive,
  checked: CheckedTable,
  signal: AbortSignal,
): Promise<string | undefined> {
  const lists = new Set(checked.stored.map(({ copyStatement, copyTarget }) => columnList(copyStatement, copyTarget)));
  const [columns] = lists;
  if (columns === undefined || lists.size > 1) return undefined;
  throwIfAborted(signal);
  const digest = new RowDigest();
  await connection.query(OUTPUT_SETTINGS, 'prepare to read the rows back');
  // A COPY of its own encoding: the statement is in UTF-8, what it sends is not.
  const encoding = dumpEncoding(stored).replaceAll("'", '');
  const statement = copyOutStatement(checked, columns).replace(
    / TO STDOUT$/,
    ` TO STDOUT WITH (ENCODING '${encoding}')`,
  );
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

function copyOutStatement(checked: CheckedTable, columns: string): string {
  const name = quotedName(checked.table);
  // COPY of a table takes its own rows only; of a partition root it has to be a query.
  if (!checked.throughRoot) return `COPY ${name}${columns === '' ? '' : ` ${columns}`} TO STDOUT`;
  return `COPY (SELECT ${columns === '' ? '' : columns.slice(1, -1)} FROM ${name}) TO STDOUT`;
}

/** `(id, name)` of `COPY shop.orders (id, name) FROM stdin;`, or '' where there is none. */
function columnList(statement: Buffer, target: Buffer): string {
  return archiveText(
    statement.subarray('COPY '.length + target.length, statement.length - 'FROM stdin;\n'.length),
  ).trim();
}

/** `LATIN1` of `SET client_encoding = 'LATIN1';`. */
export function dumpEncoding(stored: StoredArchive): string {
  const entry = stored.toc.entries.find(({ description }) => archiveText(description) === 'ENCODING');
  return (
    /client_encoding = '([^']*)'/.exec(archiveText(entry?.definition ?? null))?.[1] ?? stored.contents.source.encoding
  );
}
