/**
 * Compares the definitions of a restored database with those in the backup: pg_dump writes them down again, and the two tables of
 * contents are held against each other. What differs is told, not refused: a few things come back otherwise by PostgreSQL's own doing
 * (the order of an inheriting table's columns, for one), and the rows were proven on their own.
 */
import { createHash } from 'node:crypto';
import {
  type ArchiveToc,
  archiveText,
  effectiveSections,
  parseArchiveToc,
  SECTION_DATA,
  type TocEntry,
} from './archive.ts';
import { connect, toolEnvironment } from './connection.ts';
import { conninfo } from './definitions.ts';
import { type StoredArchive, storedText } from './stored-archive.ts';
import type { Target } from './target.ts';
import { runTool } from './tool-process.ts';
import { findTool } from './tools.ts';

const SHOWN = 10;

/** Warnings, none where all definitions are the same. Only dumps by one major version are comparable as text: else one that says so. */
export async function compareDefinitions(
  restored: Target,
  stored: StoredArchive,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const pgDump = await findTool('pg_dump', await majorOf(restored, signal), signal);
  const dumpedBy = Number.parseInt(archiveText(stored.toc.header.dumpVersion), 10);
  if (dumpedBy !== pgDump.major) {
    return [
      `The definitions were not compared: the backup's were written by pg_dump ${dumpedBy}, and here is ${pgDump.major}.`,
    ];
  }
  const { output } = await runTool(
    {
      tool: pgDump,
      args: [
        '--format=custom',
        '--compress=0',
        '--schema-only',
        '--no-password',
        `--encoding=${stored.encoding}`,
        `--dbname=${conninfo(restored.database)}`,
      ],
      env: toolEnvironment(restored),
      input: false,
      stallTimeoutMs: 0,
    },
    signal,
  );
  const toc = parseArchiveToc(output);
  if (toc === undefined) return ['The definitions could not be compared: pg_dump wrote an archive that is not whole.'];
  const expected = definitionsOf(stored.toc);
  const found = definitionsOf(toc);
  const differing = new Set<string>();
  for (const [key, entry] of expected) if (!found.has(key)) differing.add(describe(stored, entry));
  for (const [key, entry] of found) if (!expected.has(key)) differing.add(describe(stored, entry));
  if (differing.size === 0) return [];
  const shown = [...differing].slice(0, SHOWN).join(', ');
  const more = differing.size > SHOWN ? ` and ${differing.size - SHOWN} more` : '';
  return [`Definitions that read otherwise than in the backup: ${shown}${more}.`];
}

async function majorOf(target: Target, signal: AbortSignal): Promise<number> {
  await using connection = await connect(target, signal);
  return connection.serverMajor;
}

/** By a digest of all that an entry says, without ids, which differ from server to server. */
function definitionsOf(toc: ArchiveToc): ReadonlyMap<string, TocEntry> {
  const sections = effectiveSections(toc.entries);
  const definitions = new Map<string, TocEntry>();
  toc.entries.forEach((entry, index) => {
    const description = archiveText(entry.description);
    const tag = archiveText(entry.tag);
    if (sections[index] === SECTION_DATA || description.startsWith('BLOB') || /^LARGE OBJECTS? /.test(tag)) return;
    // A dump of definitions alone has no REFRESH in it.
    if (description === 'MATERIALIZED VIEW DATA') return;
    // The database's own, under whichever name.
    if (description.startsWith('DATABASE') || tag.startsWith('DATABASE ')) return;
    const hash = createHash('sha256');
    const parts = [
      entry.description,
      entry.namespace,
      entry.tag,
      entry.owner,
      entry.tablespace,
      entry.tableAccessMethod,
      entry.definition,
    ];
    for (const part of parts) hash.update(`${part?.length ?? -1}:`).update(part ?? '');
    definitions.set(hash.digest('hex'), entry);
  });
  return definitions;
}

function describe(stored: StoredArchive, entry: TocEntry): string {
  const namespace = storedText(stored, entry.namespace);
  return `${archiveText(entry.description)} ${namespace === '' ? '' : `${namespace}.`}${storedText(stored, entry.tag)}`;
}
