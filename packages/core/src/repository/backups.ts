/** The backups of a repository as a person handles them: listing, naming, holding, deleting. */
import { z } from 'zod';
import { partOf } from '../engine/part.ts';
import { CellarError, isCellarError } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import { type BackupManifest, type BackupStats, loadManifest } from './backup-manifest.ts';
import { hmac, type Subkeys } from './crypto.ts';
import { type BackupName, FORMAT_VERSION, HOLDS_PREFIX, holdName, isUlid, parseBackupName } from './format.ts';
import { inParallel } from './in-parallel.ts';
import { listBackupNames, listHoldNames } from './inventory.ts';
import { loadDocument, writeDocument } from './sealed-document.ts';
import type { Surroundings } from './surroundings.ts';

/** A line of the list of backups. */
export type BackupListing =
  | {
      readonly state: 'readable';
      readonly id: string;
      readonly object: string;
      readonly held: boolean;
      readonly database: string;
      /** Which part of its database it holds, for people; undefined: all of it. */
      readonly part: string | undefined;
      readonly startedAt: Date;
      readonly createdAt: Date;
      readonly parent: string | null;
      readonly description: string;
      readonly tags: readonly string[];
      readonly engine: string;
      readonly serverVersion: string;
      readonly entries: number;
      /** Exact rows of all its tables. */
      readonly rows: number;
      readonly stats: BackupStats;
    }
  | {
      /** Its manifest cannot be read: said rather than hidden. */
      readonly state: 'damaged';
      readonly id: string;
      readonly object: string;
      readonly held: boolean;
      readonly error: CellarError;
    };

export interface Hold {
  readonly backup: string;
  readonly reason: string;
  readonly createdAt: Date;
}

const holdSchema = z.object({
  format: z.literal(FORMAT_VERSION),
  backup: z.string().refine(isUlid),
  reason: z.string(),
  createdAt: z.iso.datetime().transform((text) => new Date(text)),
});

export interface BackupShelf {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  readonly surroundings: Surroundings;
}

/** The folder of a database's backups: a keyed hash, so that the storage shows no names. */
export function databaseHash(subkeys: Subkeys, database: string): string {
  return hmac(subkeys.databaseNames, database).toString('hex', 0, 16);
}

/** Newest first. A manifest that cannot be read is listed as damaged; one that goes away meanwhile is left out. */
export async function listBackups(shelf: BackupShelf, signal: AbortSignal): Promise<BackupListing[]> {
  const { storage, subkeys, surroundings } = shelf;
  const names = await listBackupNames(storage, signal);
  const held = new Set((await listHoldNames(storage, signal)).map(({ id }) => id));
  const read = async (name: BackupName): Promise<BackupListing | undefined> => {
    const { id, object } = name;
    try {
      return listingOf(await loadManifest(storage, name, subkeys, signal), object, held.has(id));
    } catch (error) {
      if (isCellarError(error, 'not-found')) return undefined;
      if (!isCellarError(error, 'damaged') && !isCellarError(error, 'unsupported-format')) throw error;
      return { state: 'damaged', id, object, held: held.has(id), error };
    }
  };
  const listings: BackupListing[] = [];
  for await (const listing of inParallel(names, surroundings.requests, read)) {
    if (listing !== undefined) listings.push(listing);
  }
  return listings;
}

function listingOf(manifest: BackupManifest, object: string, held: boolean): BackupListing {
  const { id, database, startedAt, createdAt, parent, description, tags, source, entries, stats } = manifest;
  return {
    state: 'readable',
    id,
    object,
    held,
    database,
    part: partOf(manifest.options.filters),
    startedAt,
    createdAt,
    parent,
    description,
    tags,
    engine: source.engine,
    serverVersion: source.serverVersion,
    entries: entries.length,
    rows: entries.reduce((sum, entry) => sum + (entry.kind === 'rows' ? (entry.rows ?? 0) : 0), 0),
    stats,
  };
}

/**
 * @param ref an id, a unique start of one, `latest`, or `NAME@latest`.
 * Throws `not-found`, or `conflict` with the candidates when a start fits several.
 */
export async function resolveBackup(shelf: BackupShelf, ref: string, signal: AbortSignal): Promise<BackupName> {
  const names = await listBackupNames(shelf.storage, signal);
  const latest = /^(?:(.+)@)?latest$/.exec(ref);
  if (latest !== null) {
    const database = latest[1] === undefined ? undefined : databaseHash(shelf.subkeys, latest[1]);
    const newest = names.find((name) => database === undefined || name.database === database);
    if (newest !== undefined) return newest;
    throw new CellarError(
      'not-found',
      latest[1] === undefined
        ? 'The repository holds no backup yet.'
        : `The repository holds no backup of ${JSON.stringify(latest[1])}.`,
      { hint: 'See what there is with "cellar list".' },
    );
  }
  const start = ref.toUpperCase();
  const candidates = start === '' ? [] : names.filter((name) => name.id.startsWith(start));
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1) return only;
  if (only === undefined) {
    throw new CellarError('not-found', `The repository holds no backup ${JSON.stringify(ref)}.`, {
      hint: 'See what there is with "cellar list".',
    });
  }
  throw new CellarError('conflict', `${JSON.stringify(ref)} is the start of ${candidates.length} backups.`, {
    hint: `Give more of the id: ${candidates
      .slice(0, 5)
      .map(({ id }) => id)
      .join(', ')}${candidates.length > 5 ? ', …' : ''}`,
    details: { candidates: candidates.map(({ id }) => id) },
  });
}

/** Removes the manifest: the backup is no more. Its packs stay until they are collected. Throws `conflict` for a held one. */
export async function deleteBackup({ storage }: BackupShelf, name: BackupName, signal: AbortSignal): Promise<void> {
  const holds = await listHoldNames(storage, signal);
  if (holds.some(({ id }) => id === name.id)) {
    throw new CellarError('conflict', `Backup ${name.id} is held.`, { hint: 'Release it first.' });
  }
  await storage.delete(name.object, { signal });
}

/** Keeps a backup from being deleted until it is released. Throws `conflict` when it is held already. */
export async function holdBackup(
  { storage, subkeys, surroundings }: BackupShelf,
  name: BackupName,
  reason: string,
  signal: AbortSignal,
): Promise<Hold> {
  const holds = await listHoldNames(storage, signal);
  if (holds.some(({ id }) => id === name.id)) {
    throw new CellarError('conflict', `Backup ${name.id} is held already.`);
  }
  const object = holdName(name.database, name.id);
  const hold = { backup: name.id, reason, createdAt: new Date(surroundings.clock()) };
  await storage.put(object, writeDocument(object, { format: FORMAT_VERSION, ...hold }, subkeys, surroundings), {
    signal,
  });
  try {
    // A deletion that looked for holds a moment ago, and found none, may have been faster.
    await storage.stat(name.object, { signal });
  } catch (error) {
    if (!isCellarError(error, 'not-found')) throw error;
    await storage.delete(object, { signal });
    throw new CellarError('not-found', `Backup ${name.id} was deleted at this moment: it is not held.`, {
      cause: error,
    });
  }
  return hold;
}

/** Throws `not-found` when the backup is not held. */
export async function releaseBackup({ storage }: BackupShelf, name: BackupName, signal: AbortSignal): Promise<void> {
  const object = holdName(name.database, name.id);
  try {
    await storage.stat(object, { signal });
  } catch (error) {
    if (!isCellarError(error, 'not-found')) throw error;
    throw new CellarError('not-found', `Backup ${name.id} is not on hold.`, { cause: error });
  }
  await storage.delete(object, { signal });
}

export async function listHolds({ storage, subkeys }: BackupShelf, signal: AbortSignal): Promise<Hold[]> {
  const holds: Hold[] = [];
  for (const { object } of await listHoldNames(storage, signal)) {
    if (parseBackupName(object, HOLDS_PREFIX) === undefined) continue;
    try {
      const { backup, reason, createdAt } = await loadDocument(storage, object, subkeys, holdSchema, signal);
      holds.push({ backup, reason, createdAt });
    } catch (error) {
      // Released since it was listed.
      if (!isCellarError(error, 'not-found')) throw error;
    }
  }
  return holds;
}
