/**
 * pg_dump 13 writes `ALTER TABLE ONLY parent ATTACH PARTITION …` into the definition of the partition; later ones give it an entry of
 * its own, TABLE ATTACH. For a choice of tables the two have to be apart, so that a partition can be had without its parent, and
 * found by it.
 */
import { archiveText, type TocEntry } from './archive.ts';
import { encodeEntry } from './archive-writer.ts';
import type { StoredArchive } from './stored-archive.ts';

/** The archive with an entry TABLE ATTACH for every partition; itself when it has them already. */
export function splitAttachments(stored: StoredArchive): StoredArchive {
  const changed = new Map<TocEntry, TocEntry>();
  const entries: TocEntry[] = [];
  const sections: StoredArchive['sections'][number][] = [];
  let lastId = stored.toc.entries.reduce((highest, { dumpId }) => Math.max(highest, dumpId), 0);
  stored.toc.entries.forEach((entry, index) => {
    const section = stored.sections[index] ?? entry.section;
    const parts = attachmentOf(entry);
    if (parts === undefined) {
      entries.push(entry);
      sections.push(section);
      return;
    }
    const table = withBytes(stored, { ...entry, definition: parts.table });
    const attachment = withBytes(stored, {
      ...entry,
      dumpId: ++lastId,
      catalogOid: Buffer.from('0', 'latin1'),
      oid: Buffer.from('0', 'latin1'),
      description: Buffer.from('TABLE ATTACH', 'latin1'),
      definition: parts.attachment,
      // Without a statement to drop it by, pg_restore does not look for its owner.
      dropStatement: Buffer.alloc(0),
      tablespace: null,
      tableAccessMethod: null,
      dependencies: [Buffer.from(String(entry.dumpId), 'latin1'), ...entry.dependencies],
    });
    changed.set(entry, table);
    entries.push(table, attachment);
    sections.push(section, section);
  });
  if (changed.size === 0) return stored;
  const replaced = (entry: TocEntry | undefined) => (entry === undefined ? undefined : (changed.get(entry) ?? entry));
  return {
    ...stored,
    toc: { ...stored.toc, entries },
    sections,
    rows: stored.rows.map((rows) => ({ ...rows, tableEntry: replaced(rows.tableEntry) })),
  };
}

function withBytes(stored: StoredArchive, entry: Omit<TocEntry, 'raw'>): TocEntry {
  return { ...entry, raw: encodeEntry(stored.toc.header, entry) };
}

/** Quoted text, where nothing counts (a quote within is doubled, and backslashes escape none), or the beginning of a statement. */
const QUOTED_OR_STATEMENT = /'[^']*'|"[^"]*"|^ALTER TABLE ONLY |;\n/gm;

/** The definition without, and with only, the statement that attaches the partition; undefined where there is none. */
function attachmentOf(entry: TocEntry): { readonly table: Buffer; readonly attachment: Buffer } | undefined {
  const description = archiveText(entry.description);
  if ((description !== 'TABLE' && description !== 'FOREIGN TABLE') || entry.definition === null) return undefined;
  const text = entry.definition.toString('latin1');
  if (!text.includes(' ATTACH PARTITION ')) return undefined;
  let start = 0;
  for (const { 0: found, index } of text.matchAll(QUOTED_OR_STATEMENT)) {
    if (found === 'ALTER TABLE ONLY ') start = index;
    if (found !== ';\n') continue;
    const end = index + found.length;
    const statement = text.slice(start, end);
    if (ATTACHMENT.test(statement)) {
      const table = text.slice(0, start) + text.slice(end);
      return { table: Buffer.from(table, 'latin1'), attachment: Buffer.from(statement, 'latin1') };
    }
    start = end;
  }
  return undefined;
}

const NAME = '(?:"(?:[^"]|"")+"|[^ ."]+)';
const ATTACHMENT = new RegExp(`^ALTER TABLE ONLY ${NAME}\\.${NAME} ATTACH PARTITION ${NAME}\\.${NAME} `);
