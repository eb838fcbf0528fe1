/**
 * What a new backup may build on: its parent, and what an interrupted run left behind. Decided once, at the start, from listings.
 * Not reused are packs that are condemned, missing or of the wrong size (their chunks are stored anew, which heals the next backups),
 * and those of which the parent used so little that keeping them alive would waste storage.
 */
import { isCellarError } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import { type BackupManifest, loadManifest, type StoredPack } from './backup-manifest.ts';
import { ChunkIndex } from './chunk-index.ts';
import type { Subkeys } from './crypto.ts';
import { type BackupName, isUlid } from './format.ts';
import { inParallel } from './in-parallel.ts';
import { condemnedPacks, type ListedPack, listBackupNames, listPacks } from './inventory.ts';
import { HEADER_BYTES } from './pack.ts';
import type { PackReader } from './pack-reader.ts';

/** Packs of interrupted runs that are looked into, newest first; each costs two or three small reads. */
const MAX_ORPHANS = 256;
const MAX_ORPHAN_CHUNKS = 1 << 18;
/** Unreadable manifests that are passed over on the way to a parent. */
const MAX_PARENT_TRIES = 3;
/** A parent's pack is worth keeping when it used at least this share of it. */
const LEAST_USE = 0.5;

export type ReusablePack = Omit<StoredPack, 'referencedBytes'>;

export interface Reuse {
  readonly parent: BackupManifest | undefined;
  /** The parent's manifest object. */
  readonly parentName: BackupName | undefined;
  /** Id of the database's newest backup, readable or not: the next one sorts after it. */
  readonly newestId: string | undefined;
  /** Packs whose chunks may be reused, by id. */
  readonly packs: ReadonlyMap<string, ReusablePack>;
  /** Chunks that interrupted runs left. */
  readonly orphans: ChunkIndex;
}

export interface ReuseOptions {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  readonly reader: PackReader;
  readonly requests: number;
  /** Keyed hash of the database's name. */
  readonly database: string;
}

export async function findReuse(options: ReuseOptions, signal: AbortSignal): Promise<Reuse> {
  const { storage, subkeys, database } = options;
  const names = await listBackupNames(storage, signal);
  const own = names.filter((name) => name.database === database);
  const { parent, parentName } = await newestReadable(options, own, signal);
  const condemned = await condemnedPacks(storage, subkeys, signal);

  const worthKeeping = new Map(
    (parent?.packs ?? [])
      .filter((pack) => pack.referencedBytes >= pack.contentBytes * LEAST_USE && !condemned.has(pack.object))
      .map((pack) => [pack.object as string, pack]),
  );
  const committed = new Set(names.map((name) => name.id));
  const packs = new Map<string, ReusablePack>();
  const orphaned: ListedPack[] = [];
  for await (const pack of listPacks(storage, signal)) {
    const known = worthKeeping.get(pack.object);
    if (known !== undefined) {
      if (known.size === pack.stored.size) packs.set(known.id, known);
    } else if (
      !committed.has(pack.run) &&
      !condemned.has(pack.object) &&
      (parent === undefined || pack.run > parent.id) &&
      isUlid(pack.run)
    ) {
      orphaned.push(pack);
    }
  }
  const orphans = await indexOrphans(options, orphaned, packs, signal);
  return { parent, parentName, newestId: own[0]?.id, packs, orphans };
}

async function newestReadable(
  { storage, subkeys }: ReuseOptions,
  names: readonly BackupName[],
  signal: AbortSignal,
): Promise<{ readonly parent: BackupManifest | undefined; readonly parentName: BackupName | undefined }> {
  for (const name of names.slice(0, MAX_PARENT_TRIES)) {
    try {
      return { parent: await loadManifest(storage, name, subkeys, signal), parentName: name };
    } catch (error) {
      // A damaged or just deleted parent costs deduplication, not the backup. Other errors are not about this object.
      const passedOver = ['damaged', 'not-found', 'unsupported-format'] as const;
      if (!passedOver.some((code) => isCellarError(error, code))) throw error;
    }
  }
  return { parent: undefined, parentName: undefined };
}

async function indexOrphans(
  { reader, requests }: ReuseOptions,
  orphaned: ListedPack[],
  packs: Map<string, ReusablePack>,
  signal: AbortSignal,
): Promise<ChunkIndex> {
  const index = new ChunkIndex(MAX_ORPHAN_CHUNKS);
  const newest = orphaned.sort((a, b) => (a.run < b.run ? 1 : -1)).slice(0, MAX_ORPHANS);
  const read = async ({ stored, packId }: ListedPack) => {
    try {
      return { stored, packId, frames: await reader.trailer(stored.name, packId, stored.size, signal) };
    } catch (error) {
      // An interrupted run's pack that is damaged or gone is of no use, and no harm.
      const useless = ['damaged', 'not-found', 'unsupported-format'] as const;
      if (useless.some((code) => isCellarError(error, code))) return undefined;
      throw error;
    }
  };
  for await (const orphan of inParallel(newest, requests, read)) {
    const last = orphan?.frames.at(-1)?.frame;
    if (orphan === undefined || last === undefined || packs.has(orphan.packId)) continue;
    packs.set(orphan.packId, {
      id: orphan.packId,
      object: orphan.stored.name,
      size: orphan.stored.size,
      sha256: null,
      contentBytes: last.offset + last.storedLength - HEADER_BYTES,
    });
    for (const { frame, ids, lengths } of orphan.frames) {
      let offset = 0;
      ids.forEach((id, i) => {
        const length = lengths[i] ?? 0;
        index.add(id, length, frame, offset);
        offset += length;
      });
    }
  }
  return index;
}
