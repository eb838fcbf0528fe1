/**
 * A digest of the definitions in an archive: equal for two dumps of the same schema, whatever their ids, times, sequence positions and
 * rows, and in whatever order pg_dump wrote them.
 */
import { createHash } from 'node:crypto';
import { type ArchiveString, type ArchiveToc, archiveText, effectiveSections, SECTION_DATA } from './archive.ts';

/** SHA-256 in hexadecimal. */
export function schemaDigest(toc: ArchiveToc): string {
  const sections = effectiveSections(toc.entries);
  const digests: string[] = [];
  toc.entries.forEach((entry, index) => {
    const [description, tag] = [archiveText(entry.description), archiveText(entry.tag)];
    // Rows, sequence positions, large objects and what hangs on those; the database itself, which may have another name.
    if (sections[index] === SECTION_DATA || isLargeObject(description, tag) || isDatabase(description, tag)) return;
    const hash = createHash('sha256');
    for (const part of [
      entry.description,
      entry.namespace,
      entry.tag,
      entry.owner,
      entry.tablespace,
      entry.tableAccessMethod,
      entry.definition,
    ]) {
      update(hash, part);
    }
    digests.push(hash.digest('hex'));
  });
  return createHash('sha256').update(digests.sort().join('\n')).digest('hex');
}

/** Up to archive version 1.15 they stand before the data, an entry each, and their comments and privileges after it. */
function isLargeObject(description: string, tag: string): boolean {
  return description.startsWith('BLOB') || /^LARGE OBJECTS? /.test(tag);
}

/** An archive always holds the database's own entries; pg_restore uses them only with --create. */
function isDatabase(description: string, tag: string): boolean {
  return description === 'DATABASE' || description === 'DATABASE PROPERTIES' || tag.startsWith('DATABASE ');
}

function update(hash: ReturnType<typeof createHash>, part: ArchiveString): void {
  // The length first: no two lists of parts give the same bytes.
  hash.update(`${part === null ? -1 : part.length}:`);
  if (part !== null) hash.update(part);
}
