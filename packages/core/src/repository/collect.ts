/**
 * Garbage collection without a lock: packs that no manifest refers to are first condemned, in a tombstone, and deleted days later if still
 * nothing refers to them. Any number of backups and collectors may run meanwhile; see docs/repository-format.md, section 7.
 *
 *   pack in no manifest, 7 days old ──mark──▶ in a tombstone ──48 h──▶ sweep: manifests read again ──▶ deleted, or in use after all
 *   tombstone ──15 days──▶ sweeps nothing more ──30 days──▶ deleted
 *
 * All ages are by the storage's clock. A manifest that cannot be read stops everything: what it refers to is not known.
 */
import { CellarError, isCellarError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import type { ObjectName, Storage, StoredObject } from '../storage/storage.ts';
import { loadManifest } from './backup-manifest.ts';
import type { Subkeys } from './crypto.ts';
import { condemnedName, FORMAT_VERSION, parsePackName } from './format.ts';
import { inParallel } from './in-parallel.ts';
import { type ListedTombstone, listBackupNames, listPacks, loadTombstones, type Tombstone } from './inventory.ts';
import { writeDocument } from './sealed-document.ts';
import { newUlid, type Surroundings } from './surroundings.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export interface CollectTimes {
  /** A pack in no manifest is condemned when it is at least this old: longer than any backup takes. */
  readonly packAgeMs: number;
  /** A condemned pack is deleted at least this long after: much longer than a commit may take, and listings may be stale. */
  readonly sweepAfterMs: number;
  /** A tombstone is kept this long, and sweeps during the first half: so its packs are long gone when it goes. */
  readonly tombstoneMs: number;
}

export const DEFAULT_COLLECT_TIMES: CollectTimes = {
  packAgeMs: 7 * DAY,
  sweepAfterMs: 48 * HOUR,
  tombstoneMs: 30 * DAY,
};

export interface CollectOptions {
  readonly times?: Partial<CollectTimes>;
  /** Only says what would be done. */
  readonly dryRun?: boolean;
  readonly onProgress?: OnProgress;
}

export interface CollectReport {
  readonly deleted: { readonly packs: number; readonly bytes: number };
  /** Condemned now, to be deleted by a later collection. */
  readonly condemned: { readonly packs: number; readonly bytes: number };
  /** In no manifest and too young to be condemned. */
  readonly young: { readonly packs: number; readonly bytes: number };
}

export interface Collector {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  readonly surroundings: Surroundings;
}

export async function collectGarbage(
  collector: Collector,
  options: CollectOptions,
  signal: AbortSignal,
): Promise<CollectReport> {
  const times = { ...DEFAULT_COLLECT_TIMES, ...options.times };
  if (times.sweepAfterMs * 2 > times.tombstoneMs) {
    throw new CellarError(
      'invalid-input',
      'A tombstone must be kept at least twice as long as it waits before its sweep.',
    );
  }
  const dryRun = options.dryRun ?? false;
  const onProgress = options.onProgress ?? (() => {});
  const deleted = await sweep(collector, times, dryRun, onProgress, signal);
  const { condemned, young } = await mark(collector, times, dryRun, onProgress, signal);
  return { deleted, condemned, young };
}

interface Tally {
  packs: number;
  bytes: number;
}

/** Deletes what was condemned long enough ago and is still in no manifest, and tombstones that have done their work. */
export async function sweep(
  { storage, subkeys, surroundings }: Collector,
  times: CollectTimes,
  dryRun: boolean,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<Tally> {
  const deleted: Tally = { packs: 0, bytes: 0 };
  // First the time and the tombstones, then the manifests: what is due now was condemned long before the manifests are listed.
  const now = await storage.now({ signal });
  const tombstones = await loadTombstones(storage, subkeys, signal);
  const age = (object: StoredObject) => now.getTime() - object.modifiedAt.getTime();
  if (!tombstones.some(({ stored }) => age(stored) >= times.sweepAfterMs)) return deleted;

  const sizes = new Map<string, number>();
  for await (const { stored } of listPacks(storage, signal)) sizes.set(stored.name, stored.size);
  const inUse = await referencedPacks(storage, subkeys, surroundings.requests, signal);
  const remaining = ({ packs }: Tombstone) => packs.filter((pack) => sizes.has(pack) && !inUse.has(pack));

  for (const { stored, tombstone } of tombstones) {
    if (age(stored) < times.sweepAfterMs || !sweeps(stored, now, times)) continue;
    for (const pack of remaining(tombstone)) {
      if (!dryRun) await storage.delete(pack as ObjectName, { signal });
      deleted.packs++;
      deleted.bytes += sizes.get(pack) ?? 0;
      sizes.delete(pack);
      onProgress({ phase: 'sweep', item: pack, done: deleted.packs });
    }
  }
  for (const { stored, tombstone } of tombstones) {
    if (age(stored) < times.tombstoneMs || dryRun) continue;
    const younger = condemnedBy(tombstones.filter((other) => age(other.stored) < age(stored)));
    if (remaining(tombstone).every((pack) => younger.has(pack))) await storage.delete(stored.name, { signal });
  }
  return deleted;
}

/** Condemns packs that are old and in no manifest. */
export async function mark(
  { storage, subkeys, surroundings }: Collector,
  times: CollectTimes,
  dryRun: boolean,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<{ readonly condemned: Tally; readonly young: Tally }> {
  const condemned: Tally = { packs: 0, bytes: 0 };
  const young: Tally = { packs: 0, bytes: 0 };
  const now = await storage.now({ signal });
  const tombstones = await loadTombstones(storage, subkeys, signal);
  const awaitingSweep = condemnedBy(tombstones.filter(({ stored }) => sweeps(stored, now, times)));
  const inUse = await referencedPacks(storage, subkeys, surroundings.requests, signal);
  const packs: string[] = [];
  for await (const { stored } of listPacks(storage, signal)) {
    if (inUse.has(stored.name) || awaitingSweep.has(stored.name)) continue;
    const old = now.getTime() - stored.modifiedAt.getTime() >= times.packAgeMs;
    const tally = old ? condemned : young;
    tally.packs++;
    tally.bytes += stored.size;
    if (old) packs.push(stored.name);
  }
  if (packs.length > 0 && !dryRun) {
    const id = newUlid(surroundings);
    const tombstone: Tombstone = { format: FORMAT_VERSION, id, createdAt: new Date(surroundings.clock()), packs };
    const name = condemnedName(id);
    await storage.put(name, writeDocument(name, tombstone, subkeys, surroundings), { signal });
  }
  onProgress({ phase: 'mark', done: condemned.packs });
  return { condemned, young };
}

/** A tombstone sweeps during the first half of its life only: what it missed by then is condemned anew. */
function sweeps(stored: StoredObject, now: Date, times: CollectTimes): boolean {
  return now.getTime() - stored.modifiedAt.getTime() < times.tombstoneMs / 2;
}

function condemnedBy(tombstones: readonly ListedTombstone[]): ReadonlySet<string> {
  return new Set(tombstones.flatMap(({ tombstone }) => tombstone.packs));
}

/** Names of all pack objects that some manifest refers to. Throws on the first manifest that cannot be read, naming it. */
async function referencedPacks(
  storage: Storage,
  subkeys: Subkeys,
  requests: number,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const names = await listBackupNames(storage, signal);
  const packsOf = async (name: (typeof names)[number]): Promise<readonly string[]> => {
    try {
      const { packs } = await loadManifest(storage, name, subkeys, signal);
      return packs.map(({ object }) => object).filter((object) => parsePackName(object) !== undefined);
    } catch (error) {
      if (isCellarError(error, 'not-found')) {
        await confirmDeleted(storage, name.object, error, signal);
        return [];
      }
      if (!isCellarError(error, 'damaged') && !isCellarError(error, 'unsupported-format')) throw error;
      throw new CellarError(
        error.code,
        `Nothing was collected, because backup ${name.id} cannot be read. ${error.message}`,
        {
          hint: 'Repair or delete that backup; until then it is not known which packs it needs.',
          details: { object: name.object, backup: name.id },
          cause: error,
        },
      );
    }
  };
  const packs = new Set<string>();
  for await (const objects of inParallel(names, requests, packsOf)) {
    for (const object of objects) packs.add(object);
  }
  return packs;
}

/** A listed manifest that is not found was deleted meanwhile; unless it is still listed, which only an unsettled storage does. */
async function confirmDeleted(storage: Storage, name: ObjectName, cause: unknown, signal: AbortSignal): Promise<void> {
  for await (const listed of storage.list(name, { signal })) {
    if (listed.name !== name) continue;
    throw new CellarError('storage-failed', `Object ${name} is listed and cannot be found. Nothing was collected.`, {
      hint: 'Collect again later.',
      retryable: true,
      details: { object: name },
      cause,
    });
  }
}
