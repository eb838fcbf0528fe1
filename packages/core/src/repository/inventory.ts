/** Listings of a repository: which objects there are, by kind. Names and sizes only; nothing is read. */

import { z } from 'zod';
import { isCellarError } from '../errors.ts';
import type { Storage, StoredObject } from '../storage/storage.ts';
import { isObjectName } from '../storage/storage.ts';
import type { Subkeys } from './crypto.ts';
import {
  BACKUPS_PREFIX,
  type BackupName,
  CONDEMNED_PREFIX,
  condemnedName,
  FORMAT_VERSION,
  HOLDS_PREFIX,
  isUlid,
  PACKS_PREFIX,
  type PackName,
  parseBackupName,
  parseCondemnedName,
  parsePackName,
} from './format.ts';
import { loadDocument } from './sealed-document.ts';

/** Newest first, over all databases. */
export async function listBackupNames(storage: Storage, signal: AbortSignal): Promise<BackupName[]> {
  const names: BackupName[] = [];
  for await (const { name } of storage.list(BACKUPS_PREFIX, { signal })) {
    const parsed = parseBackupName(name);
    if (parsed !== undefined) names.push(parsed);
  }
  return names.sort((a, b) => (a.id < b.id ? 1 : -1));
}

export async function listHoldNames(storage: Storage, signal: AbortSignal): Promise<BackupName[]> {
  const names: BackupName[] = [];
  for await (const { name } of storage.list(HOLDS_PREFIX, { signal })) {
    const parsed = parseBackupName(name, HOLDS_PREFIX);
    if (parsed !== undefined) names.push(parsed);
  }
  return names;
}

export interface ListedPack extends PackName {
  readonly stored: StoredObject;
}

export async function* listPacks(storage: Storage, signal: AbortSignal): AsyncGenerator<ListedPack> {
  for await (const stored of storage.list(PACKS_PREFIX, { signal })) {
    const name = parsePackName(stored.name);
    if (name !== undefined) yield { ...name, stored };
  }
}

/** What the garbage collector writes before it deletes. */
export interface Tombstone {
  readonly format: typeof FORMAT_VERSION;
  readonly id: string;
  readonly createdAt: Date;
  /** Names of pack objects. */
  readonly packs: readonly string[];
}

const tombstoneSchema: z.ZodType<Tombstone> = z.object({
  format: z.literal(FORMAT_VERSION),
  id: z.string().refine(isUlid),
  createdAt: z.iso.datetime().transform((text) => new Date(text)),
  packs: z.array(z.string().refine((name) => isObjectName(name) && parsePackName(name) !== undefined)),
});

export interface ListedTombstone {
  readonly stored: StoredObject;
  readonly tombstone: Tombstone;
}

/**
 * Every tombstone. One that disappears between listing and reading had expired: its packs are long gone. One that cannot be read
 * is an error: nobody would know what it condemns.
 */
export async function loadTombstones(storage: Storage, keys: Subkeys, signal: AbortSignal): Promise<ListedTombstone[]> {
  const listed: StoredObject[] = [];
  for await (const stored of storage.list(CONDEMNED_PREFIX, { signal })) {
    if (parseCondemnedName(stored.name) !== undefined) listed.push(stored);
  }
  const tombstones: ListedTombstone[] = [];
  for (const stored of listed) {
    const id = parseCondemnedName(stored.name) ?? '';
    try {
      tombstones.push({
        stored,
        tombstone: await loadDocument(storage, condemnedName(id), keys, tombstoneSchema, signal),
      });
    } catch (error) {
      if (!isCellarError(error, 'not-found')) throw error;
    }
  }
  return tombstones;
}

/** Names of all packs that are about to be deleted. */
export async function condemnedPacks(
  storage: Storage,
  keys: Subkeys,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const condemned = new Set<string>();
  for (const { tombstone } of await loadTombstones(storage, keys, signal)) {
    for (const pack of tombstone.packs) condemned.add(pack);
  }
  return condemned;
}
