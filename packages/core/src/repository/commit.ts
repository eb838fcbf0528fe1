/**
 * The end of a backup: the steps by which its manifest comes into being only while everything it refers to is there, and stays there,
 * although a garbage collector may be at work on another machine.
 *
 *   list condemned ─▶ confirm every pack by a listing ─▶ copy condemned ones to new names ─▶ create the manifest
 *         ▲                                                                                    │
 *         ╰──────────────────── more than an hour since the listing ◀──────────────────────────╯
 *
 * The order is the proof: docs/repository-format.md, section 7. Nothing else may create a manifest.
 */
import { createHash } from 'node:crypto';
import { CellarError, isCellarError } from '../errors.ts';
import { type ObjectName, readSmall, type Storage } from '../storage/storage.ts';
import type { BackupManifest } from './backup-manifest.ts';
import type { Subkeys } from './crypto.ts';
import { damaged, MAX_DOCUMENT_BYTES, MAX_PACK_BYTES } from './format.ts';
import { condemnedPacks, listPacks } from './inventory.ts';
import type { ReusablePack } from './reuse.ts';
import { writeDocument } from './sealed-document.ts';
import type { Surroundings } from './surroundings.ts';

/** Times that a commit is begun anew before it gives up: a storage that needs an hour for a listing every time is out of order. */
const MAX_ATTEMPTS = 5;

/** Steps that the tests leave out, to see that the exploration of interleavings then finds a loss. */
export interface CommitSteps {
  readonly confirm: typeof confirmPacks;
  readonly condemned: typeof condemnedPacks;
}

export interface CommitOptions {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  readonly surroundings: Surroundings;
  /** How long a listing of condemned packs may be trusted, milliseconds. */
  readonly listingFreshMs: number;
  readonly steps: CommitSteps;
  /** The manifest's object. */
  readonly name: ObjectName;
  /** Every pack that the backup refers to. */
  readonly packs: readonly ReusablePack[];
  /** A fresh name for a copy of a pack. */
  readonly nextName: (packId: string) => ObjectName;
  /** The manifest, with where the packs are in the end. */
  readonly manifest: (packs: readonly ReusablePack[]) => BackupManifest;
}

export const ALL_STEPS: CommitSteps = { confirm: confirmPacks, condemned: condemnedPacks };

export async function commitBackup(options: CommitOptions, signal: AbortSignal): Promise<BackupManifest> {
  const { storage, subkeys, surroundings, listingFreshMs, steps } = options;
  let packs = options.packs;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const since = surroundings.clock();
    const condemned = await steps.condemned(storage, subkeys, signal);
    await steps.confirm(storage, packs, signal);
    packs = await copyCondemned(options, packs, condemned, signal);
    const manifest = options.manifest(packs);
    const bytes = writeDocument(options.name, manifest, subkeys, surroundings);
    const left = listingFreshMs - Math.abs(surroundings.clock() - since);
    if (left > 0 && (await create(storage, options.name, bytes, left, signal))) return manifest;
  }
  throw new CellarError('storage-failed', 'The storage was too slow to commit the backup.', {
    hint: 'Nothing was lost: the next backup reuses what was uploaded. See whether the storage answers as it should.',
    retryable: true,
  });
}

/** Creates the manifest unless that takes longer than `withinMs`; an aborted put leaves nothing that is listed. */
async function create(
  storage: Storage,
  name: ObjectName,
  bytes: Buffer,
  withinMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const deadline = AbortSignal.timeout(Math.min(withinMs, 2 ** 31 - 1));
  try {
    await storage.put(name, bytes, { signal: AbortSignal.any([signal, deadline]) });
    return true;
  } catch (error) {
    if (isCellarError(error, 'conflict')) {
      // The name is unique to this run: it is our own put, whose answer was lost.
      const stored = await readSmall(storage, name, MAX_DOCUMENT_BYTES, { signal });
      if (stored.equals(bytes)) return true;
    }
    if (deadline.aborted && !signal.aborted) return false;
    throw error;
  }
}

/** Throws unless every pack is in the storage with its size. */
export async function confirmPacks(
  storage: Storage,
  packs: readonly ReusablePack[],
  signal: AbortSignal,
): Promise<void> {
  const unseen = new Map(packs.map((pack) => [pack.object as string, pack]));
  for await (const { object, stored } of listPacks(storage, signal)) {
    if (unseen.get(object)?.size === stored.size) unseen.delete(object);
  }
  // A listing may not show yet what was uploaded a moment ago: ask for those by name.
  for (const { object, size } of unseen.values()) {
    try {
      const stored = await storage.stat(object, { signal });
      if (stored.size !== size) throw damaged(object, `it has ${stored.size} bytes instead of ${size}`);
    } catch (error) {
      throw isCellarError(error, 'not-found') ? removed(object, error) : error;
    }
  }
}

async function copyCondemned(
  { storage, nextName }: CommitOptions,
  packs: readonly ReusablePack[],
  condemned: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<readonly ReusablePack[]> {
  const result: ReusablePack[] = [];
  for (const pack of packs) {
    result.push(condemned.has(pack.object) ? await copyPack(storage, pack, nextName(pack.id), signal) : pack);
  }
  return result;
}

/** Copies a pack whole: its frames, and so every place that points into them, stay valid. */
async function copyPack(
  storage: Storage,
  pack: ReusablePack,
  object: ObjectName,
  signal: AbortSignal,
): Promise<ReusablePack> {
  let bytes: Buffer;
  try {
    bytes = await readSmall(storage, pack.object, MAX_PACK_BYTES, { signal });
  } catch (error) {
    throw isCellarError(error, 'not-found') ? removed(pack.object, error) : error;
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (bytes.length !== pack.size || (pack.sha256 !== null && pack.sha256 !== sha256)) {
    throw damaged(pack.object, 'it is not what was written');
  }
  await storage.put(object, bytes, { signal });
  return { ...pack, object, sha256 };
}

function removed(object: ObjectName, cause: unknown): CellarError {
  return new CellarError('conflict', `Object ${object}, which this backup builds on, was removed while it ran.`, {
    hint: 'Run the backup again: it stores what is missing.',
    retryable: true,
    details: { object },
    cause,
  });
}
