/** The part of verification that knows entries: reading them, or their recipes, and saying which ones damage harms. */
import { CellarError, isCellarError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import type { ObjectName } from '../storage/storage.ts';
import type { BackupManifest } from './backup-manifest.ts';
import { type EntrySource, packTable, readStoredEntry, recipePages } from './entry-reader.ts';
import type { BackupName } from './format.ts';
import type { PackReader } from './pack-reader.ts';
import { rootRefs } from './recipe.ts';

export interface Finding {
  readonly object: string;
  /** What is wrong, as a clause. */
  readonly problem: string;
  /** Ids of the backups that it harms; empty where a key or tombstone is damaged. */
  readonly backups: readonly string[];
  /** Entries of these backups that cannot be read, as far as known. */
  readonly entries: readonly { readonly backup: string; readonly entry: string }[];
}

export interface CheckedBackup {
  readonly name: BackupName;
  readonly manifest: BackupManifest;
}

/** Walks the recipes of a backup, or (`whole`) reads its entries as a restore does. Returns bytes read. */
export async function readEntries(
  { name, manifest }: CheckedBackup,
  whole: boolean,
  reader: PackReader,
  findings: Finding[],
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<number> {
  const source: EntrySource = { reader, object: name.object, packs: packTable(manifest) };
  let bytes = 0;
  for (const entry of manifest.entries) {
    const found = await problemOf(async () => {
      if (whole) {
        for await (const piece of readStoredEntry(source, entry, signal)) bytes += piece.length;
      } else {
        for (const segment of entry.segments) {
          for await (const refs of recipePages(source, segment, signal)) {
            const stray = refs.find(({ frame }) => !source.packs.has(frame.packId));
            if (stray !== undefined) throw unlike(name.object, `it does not say where pack ${stray.frame.packId} is`);
          }
        }
      }
    }, true);
    onProgress({ phase: 'entries', item: entry.name, bytes });
    if (found === undefined) continue;
    const object = found.object || name.object;
    const harmed = { backup: manifest.id, entry: entry.name };
    const at = findings.findIndex((finding) => finding.object === object);
    const known = findings[at];
    if (known === undefined) {
      findings.push({ object, problem: found.problem, backups: [manifest.id], entries: [harmed] });
    } else {
      const others = known.entries.filter((other) => other.backup !== harmed.backup || other.entry !== harmed.entry);
      const backups = [...new Set([...known.backups, manifest.id])];
      findings[at] = { ...known, backups, entries: [...others, harmed] };
    }
  }
  return bytes;
}

/** Entries of a backup with chunks or pages in a pack, as far as its recipes can be read. */
export async function harmedEntries(
  { name, manifest }: CheckedBackup,
  packId: string,
  reader: PackReader,
  signal: AbortSignal,
): Promise<{ backup: string; entry: string }[]> {
  const source: EntrySource = { reader, object: name.object, packs: packTable(manifest) };
  const harmed: { backup: string; entry: string }[] = [];
  for (const entry of manifest.entries) {
    let uses = false;
    const found = await problemOf(async () => {
      for (const segment of entry.segments) {
        uses ||= rootRefs(name.object, segment).some(({ frame }) => frame.packId === packId);
        if (uses) return;
        for await (const refs of recipePages(source, segment, signal)) {
          uses ||= refs.some(({ frame }) => frame.packId === packId);
        }
      }
    }, true);
    if (uses || found !== undefined) harmed.push({ backup: manifest.id, entry: entry.name });
  }
  return harmed;
}

/** Runs a check; damage that it throws is the answer. @param missing whether an object that is not there is damage too. */
export async function problemOf(
  check: () => Promise<unknown>,
  missing = true,
): Promise<{ readonly object: string; readonly problem: string } | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    if (!isCellarError(error)) throw error;
    const isDamage =
      error.code === 'damaged' || error.code === 'unsupported-format' || (missing && error.code === 'not-found');
    if (!isDamage) throw error;
    const { object } = error.details;
    return { object: typeof object === 'string' ? object : '', problem: error.message };
  }
}

export function unlike(object: ObjectName, what: string): CellarError {
  return new CellarError('damaged', what, { details: { object } });
}
