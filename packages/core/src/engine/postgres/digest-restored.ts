/** The digest of a restored table's rows, read back by COPY with the settings of a dump and the column list of the backup. */
import type { StoredArchive } from './stored-archive.ts';
import { archiveText } from './archive.ts';
import { openCopyConnection } from './copy-out.ts';
import { RowDigest } from './row-digest.ts';
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

function copyOutStatement(checked: CheckedTable, columns: string): string {
  const name = quotedName(checked.table);
  // COPY of a table takes its own rows only; of a partition root it has to be a query.
  if (!checked.throughRoot) return `COPY ${name}${columns === '' ? '' : ` ${columns}`} TO STDOUT`;
  return `COPY (SELECT ${columns === '' ? '' : columns.slice(1, -1)} FROM ${name}) TO STDOUT`;
}

/** `(id, name)` of `COPY shop.orders (id, name) FROM stdin;`, or '' where there is none. */
function columnList(statement: Buffer, target: Buffer): string {
  return archiveText(statement.subarray('COPY '.length + target.length, statement.length - 'FROM stdin;\n'.length)).trim();
}

/** `LATIN1` of `SET client_encoding = 'LATIN1';`. */
export function dumpEncoding(stored: StoredArchive): string {
  const entry = stored.toc.entries.find(({ description }) => archiveText(description) === 'ENCODING');
  return /client_encoding = '([^']*)'/.exec(archiveText(entry?.definition ?? null))?.[1] ?? stored.contents.source.encoding;
}
