/**
 * Names for new plain files. Names have whole seconds, and two backups may start in one: each takes the next second that nobody has. A
 * small object `….writing` holds it from the first byte of the dump to the end, so that other processes see it too; it also shows a
 * person that a backup is being written. One that a crashed writer left harms nobody, since its second is over, and goes after a week.
 */
import { CellarError, isCellarError } from '../errors.ts';
import type { ObjectName, Storage } from '../storage/storage.ts';
import type { AgeEncryption } from './age.ts';
import type { Compression } from './compression.ts';
import {
  fileOfSidecar,
  makePlainName,
  type PlainName,
  parsePlainName,
  reservationName,
  stemOf,
  stemOfReservation,
} from './file-name.ts';

const FORGOTTEN_MS = 7 * 24 * 60 * 60 * 1000;
const MOST_SECONDS = 3600;

export interface NameWish {
  readonly prefix: string;
  readonly now: Date;
  readonly compression: Compression;
  readonly encryption: AgeEncryption | undefined;
}

export interface ReservedName extends AsyncDisposable {
  readonly name: PlainName;
}

/**
 * Where the storage creates exclusively, no two writers get one name. Elsewhere two that start at the very same moment could; a file
 * that exists is never chosen.
 */
export async function reserveName(storage: Storage, wish: NameWish, signal: AbortSignal): Promise<ReservedName> {
  const { prefix, now, compression, encryption } = wish;
  let taken = await takenStems(storage, prefix, now, signal);
  for (let seconds = 0; seconds < MOST_SECONDS; seconds++) {
    const time = new Date(now.getTime() + seconds * 1000);
    const name = makePlainName(prefix, time, compression, encryption !== undefined);
    const stem = stemOf(name);
    if (taken.has(stem)) continue;
    const mark = reservationName(stem);
    try {
      await storage.put(mark, Buffer.from(`A backup is being written since ${now.toISOString()}.\n`), { signal });
    } catch (error) {
      if (isCellarError(error, 'conflict')) continue;
      throw error;
    }
    const free = () => storage.delete(mark, { signal: AbortSignal.timeout(30_000) });
    // Between the listing and the mark another writer may have come, finished and gone.
    taken = await takenStems(storage, prefix, now, signal, mark).catch(async (error: unknown) => {
      await free().catch(() => {});
      throw error;
    });
    if (!taken.has(stem)) {
      return {
        name,
        // A mark that cannot be removed now is removed after a week.
        [Symbol.asyncDispose]: () => free().catch(() => {}),
      };
    }
    await free();
  }
  throw new CellarError('conflict', `There is no free name for a backup in the hour from ${now.toISOString()}.`, {
    hint: 'Look into the folder: it holds a backup for every second.',
    details: { prefix },
  });
}

/** The stems of this prefix that files, sidecars or writers have. */
async function takenStems(
  storage: Storage,
  prefix: string,
  now: Date,
  signal: AbortSignal,
  own?: ObjectName,
): Promise<Set<string>> {
  const taken = new Set<string>();
  for await (const object of storage.list(`${prefix}_backup_`, { signal })) {
    if (object.name === own) continue;
    const reserved = stemOfReservation(object.name);
    if (reserved !== undefined && now.getTime() - object.modifiedAt.getTime() > FORGOTTEN_MS) {
      await storage.delete(object.name, { signal });
      continue;
    }
    const file = parsePlainName(object.name) ?? fileOfSidecar(object.name);
    const stem = reserved ?? (file === undefined ? undefined : stemOf(file));
    if (stem !== undefined) taken.add(stem);
  }
  return taken;
}
