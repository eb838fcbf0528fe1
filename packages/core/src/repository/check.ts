/**
 * Verification. Structure: every manifest opens, every pack it needs is there with its size. Data: packs (a sample, or all) are read whole,
 * every frame opened and every chunk compared with its id; or, for chosen backups, every entry is read as a restore would.
 * What is wrong is the answer, not an error: which object, what about it, and which backups and entries that harms.
 */
import { createHash } from 'node:crypto';
import { isCellarError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import { type ObjectName, readSmall, type Storage, type StoredObject } from '../storage/storage.ts';
import { type BackupManifest, loadManifest, type StoredPack } from './backup-manifest.ts';
import { type BackupShelf, listHolds } from './backups.ts';
import { type CheckedBackup, type Finding, harmedEntries, problemOf, readEntries, unlike } from './check-entries.ts';
import { packTable } from './entry-reader.ts';
import {
  type BackupName,
  CONDEMNED_PREFIX,
  CONFIG_NAME,
  HOLDS_PREFIX,
  MAX_PACK_BYTES,
  MAX_SIGNED_TEXT_BYTES,
  parseBackupName,
  parseCondemnedName,
  parsePackName,
} from './format.ts';
import { loadTombstones } from './inventory.ts';
import { parseKeyObject } from './key-object.ts';
import { checkHeader, FOOTER_BYTES, HEADER_BYTES } from './pack.ts';
import type { PackReader } from './pack-reader.ts';
import { rootRefs } from './recipe.ts';

export interface CheckOptions {
  /** `structure` reads manifests only; `data` reads packs too. */
  readonly level: 'structure' | 'data';
  /** With `data`: share of the packs that are read, chosen at random; default 100. */
  readonly percent?: number;
  /** Only these backups (ids); with `data` all their entries are read. Default: all backups. */
  readonly backups?: readonly string[];
  readonly onProgress?: OnProgress;
}

export type { Finding } from './check-entries.ts';

export interface CheckReport {
  /** Empty: nothing is wrong with what was looked at. */
  readonly findings: readonly Finding[];
  readonly checked: {
    readonly backups: number;
    /** Packs that were looked for and whose size was compared. */
    readonly packs: number;
    /** Of these, the ones that were read whole. */
    readonly packsRead: number;
    readonly bytesRead: number;
  };
  /** Packs in no manifest: of runs under way, interrupted ones, and deleted backups. No damage. */
  readonly unreferenced: { readonly packs: number; readonly bytes: number };
  /** Objects that are none of the repository's. */
  readonly unknown: readonly string[];
}

interface Stock {
  readonly backups: BackupName[];
  readonly packs: Map<string, StoredObject>;
  readonly keys: StoredObject[];
  readonly unknown: string[];
}

export async function checkRepository(
  shelf: BackupShelf,
  reader: PackReader,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<CheckReport> {
  const onProgress = options.onProgress ?? (() => {});
  const findings: Finding[] = [];
  const stock = await takeStock(shelf, signal);
  await checkSmallObjects(shelf, stock, findings, signal);

  const chosen = options.backups === undefined ? undefined : new Set(options.backups);
  const backups: CheckedBackup[] = [];
  const inUse = new Map<string, { readonly pack: StoredPack; readonly users: CheckedBackup[] }>();
  for (const name of stock.backups) {
    if (chosen !== undefined && !chosen.has(name.id)) continue;
    const manifest = await readManifest(shelf, name, findings, signal);
    if (manifest === undefined) continue;
    const backup = { name, manifest };
    backups.push(backup);
    for (const pack of manifest.packs) {
      const use = inUse.get(pack.object);
      if (use === undefined) inUse.set(pack.object, { pack, users: [backup] });
      else use.users.push(backup);
    }
    onProgress({ phase: 'manifests', item: name.id, done: backups.length, total: stock.backups.length });
  }

  const damagedPacks = new Map<string, string>();
  for (const { pack } of inUse.values()) {
    // What came after the listing, or is not in it yet, is asked for by name.
    const stored = stock.packs.get(pack.object) ?? (await statOf(shelf.storage, pack.object, signal));
    if (stored === undefined) damagedPacks.set(pack.object, 'it is missing');
    else if (stored.size !== pack.size) {
      damagedPacks.set(pack.object, `it has ${stored.size} bytes instead of ${pack.size}`);
    }
  }

  let packsRead = 0;
  let bytesRead = 0;
  if (options.level === 'data' && chosen === undefined) {
    const sample = samplePacks([...inUse.keys()], options.percent ?? 100, shelf.surroundings.random);
    for (const object of sample) {
      const use = inUse.get(object);
      if (use === undefined || damagedPacks.has(object)) continue;
      const problem = await problemOf(() => readPack(shelf, reader, use.pack, signal));
      if (problem !== undefined) damagedPacks.set(object, problem.problem);
      packsRead++;
      bytesRead += use.pack.size;
      onProgress({ phase: 'packs', item: object, bytes: bytesRead, done: packsRead, total: sample.length });
    }
  }
  for (const [object, problem] of damagedPacks) {
    const users = inUse.get(object)?.users ?? [];
    const packId = inUse.get(object)?.pack.id ?? '';
    const entries: { backup: string; entry: string }[] = [];
    for (const user of users) entries.push(...(await harmedEntries(user, packId, reader, signal)));
    findings.push({ object, problem, backups: users.map(({ manifest }) => manifest.id), entries });
  }
  if (options.level === 'data') {
    for (const backup of backups) {
      bytesRead += await readEntries(backup, chosen !== undefined, reader, findings, onProgress, signal);
    }
  }

  let unreferenced = { packs: 0, bytes: 0 };
  if (chosen === undefined) {
    for (const { name, size } of stock.packs.values()) {
      if (!inUse.has(name)) unreferenced = { packs: unreferenced.packs + 1, bytes: unreferenced.bytes + size };
    }
  }
  return {
    findings,
    checked: { backups: backups.length, packs: inUse.size, packsRead, bytesRead },
    unreferenced,
    unknown: stock.unknown,
  };
}

async function takeStock({ storage }: BackupShelf, signal: AbortSignal): Promise<Stock> {
  const stock: Stock = { backups: [], packs: new Map(), keys: [], unknown: [] };
  for await (const object of storage.list('', { signal })) {
    const { name } = object;
    const backup = parseBackupName(name);
    if (backup !== undefined) stock.backups.push(backup);
    else if (parsePackName(name) !== undefined) stock.packs.set(name, object);
    else if (/^keys\/[0-9a-f]{16}$/.test(name)) stock.keys.push(object);
    else if (
      name !== CONFIG_NAME &&
      parseBackupName(name, HOLDS_PREFIX) === undefined &&
      parseCondemnedName(name) === undefined
    ) {
      stock.unknown.push(name);
    }
  }
  stock.backups.sort((a, b) => (a.id < b.id ? 1 : -1));
  return stock;
}

/** Keys, holds and tombstones: they harm no backup, but a person should know. The config was checked when the repository was opened. */
async function checkSmallObjects(
  shelf: BackupShelf,
  stock: Stock,
  findings: Finding[],
  signal: AbortSignal,
): Promise<void> {
  const note = (found: { object: string; problem: string } | undefined, fallback: string) => {
    if (found === undefined) return;
    findings.push({ object: found.object || fallback, problem: found.problem, backups: [], entries: [] });
  };
  for (const { name } of stock.keys) {
    const found = await problemOf(async () => {
      const key = parseKeyObject(name, await readSmall(shelf.storage, name, MAX_SIGNED_TEXT_BYTES, { signal }));
      if (!key.signedBy(shelf.subkeys)) throw unlike(name, 'it is not signed by this repository');
    });
    note(found, name);
  }
  note(await problemOf(() => listHolds(shelf, signal)), HOLDS_PREFIX);
  note(await problemOf(() => loadTombstones(shelf.storage, shelf.subkeys, signal)), CONDEMNED_PREFIX);
}

async function statOf(storage: Storage, name: ObjectName, signal: AbortSignal): Promise<StoredObject | undefined> {
  try {
    return await storage.stat(name, { signal });
  } catch (error) {
    if (isCellarError(error, 'not-found')) return undefined;
    throw error;
  }
}

async function readManifest(
  { storage, subkeys }: BackupShelf,
  name: BackupName,
  findings: Finding[],
  signal: AbortSignal,
): Promise<BackupManifest | undefined> {
  let manifest: BackupManifest | undefined;
  const found = await problemOf(async () => {
    const loaded = await loadManifest(storage, name, subkeys, signal);
    const packs = packTable(loaded);
    for (const entry of loaded.entries) {
      for (const segment of entry.segments) {
        for (const { frame } of rootRefs(name.object, segment)) {
          if (!packs.has(frame.packId)) throw unlike(name.object, `it does not say where pack ${frame.packId} is`);
        }
      }
    }
    manifest = loaded;
  }, false).catch((error: unknown) => {
    // A backup that was deleted since it was listed is no damage.
    if (isCellarError(error, 'not-found')) return undefined;
    throw error;
  });
  if (found !== undefined) {
    findings.push({ object: name.object, problem: found.problem, backups: [name.id], entries: [] });
  }
  return manifest;
}

/** Throws `damaged` unless the whole pack is what was written. */
async function readPack(
  { storage }: BackupShelf,
  reader: PackReader,
  pack: StoredPack,
  signal: AbortSignal,
): Promise<void> {
  const bytes = await readSmall(storage, pack.object, MAX_PACK_BYTES, { signal });
  if (bytes.length !== pack.size) throw unlike(pack.object, `it has ${bytes.length} bytes instead of ${pack.size}`);
  const key = reader.key(pack.id);
  checkHeader(pack.object, key, bytes.subarray(0, HEADER_BYTES));
  const footerAt = bytes.length - FOOTER_BYTES;
  const trailerAt = key.openFooter(pack.object, bytes.length, bytes.subarray(footerAt));
  for (const { frame, ids, lengths } of key.openTrailer(pack.object, trailerAt, bytes.subarray(trailerAt, footerAt))) {
    const raw = key.openFrame(pack.object, frame, bytes.subarray(frame.offset, frame.offset + frame.storedLength));
    let offset = 0;
    ids.forEach((id, i) => {
      const length = lengths[i] ?? 0;
      reader.take(pack.object, raw, { id, length, frame, offset });
      offset += length;
    });
  }
  if (pack.sha256 !== null && createHash('sha256').update(bytes).digest('hex') !== pack.sha256) {
    throw unlike(pack.object, 'its SHA-256 is not the one it was written with');
  }
}

function samplePacks(objects: string[], percent: number, random: (length: number) => Buffer): string[] {
  if (percent >= 100) return objects;
  const wanted = Math.ceil((objects.length * Math.max(0, percent)) / 100);
  return objects
    .map((object) => ({ object, order: random(6).readUIntBE(0, 6) }))
    .sort((a, b) => a.order - b.order)
    .slice(0, wanted)
    .map(({ object }) => object);
}
