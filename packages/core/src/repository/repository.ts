/**
 * The repository: backups of many databases on one storage, deduplicated, compressed and encrypted, for any number of writers without a
 * lock. This file is the whole of what the verbs use; how the bytes lie is in docs/repository-format.md.
 */

import { decodeTime } from 'ulid';
import type { BackupContents, Entry } from '../engine/engine.ts';
import { partOf } from '../engine/part.ts';
import { CellarError } from '../errors.ts';
import { readSmall, type Storage } from '../storage/storage.ts';
import { type BackupManifest, loadManifest } from './backup-manifest.ts';
import { type BackupWriter, createBackupWriter } from './backup-writer.ts';
import {
  type BackupListing,
  type BackupShelf,
  databaseHash,
  deleteBackup,
  type Hold,
  holdBackup,
  listBackups,
  listHolds,
  releaseBackup,
  resolveBackup,
} from './backups.ts';
import { type CheckOptions, type CheckReport, checkRepository } from './check.ts';
import { type ChunkerConfig, type ChunkSpec, chunkIds, DEFAULT_CHUNKER } from './chunk-spec.ts';
import { type CollectOptions, type CollectReport, collectGarbage } from './collect.ts';
import { ALL_STEPS, type CommitSteps } from './commit.ts';
import { exchangedConfig, loadConfig, parseConfig, type RepositoryConfig } from './config.ts';
import { deriveSubkeys, MASTER_KEY_BYTES } from './crypto.ts';
import { findEntry, packTable, readStoredEntry } from './entry-reader.ts';
import { backupName, CONFIG_NAME, FORMAT_VERSION, KEYS_PREFIX, MAX_SIGNED_TEXT_BYTES } from './format.ts';
import type { KeyProtection } from './key-object.ts';
import {
  type OpenedKeys,
  openWithoutSecret,
  openWithSecret,
  type RepositoryKeys,
  repositoryKeys,
  storeKey,
} from './keys.ts';
import { PackReader } from './pack-reader.ts';
import { findReuse } from './reuse.ts';
import { writeSignedText } from './signed-text.ts';
import { newUlid, type Surroundings, SYSTEM } from './surroundings.ts';

export const DEFAULT_PACK_TARGET_BYTES = 16 << 20;
/** How long a writer may trust its listing of condemned packs. */
const LISTING_FRESH_MS = 3_600_000;

/** Disposing of it closes its storage. */
export interface Repository extends AsyncDisposable {
  /** 32 hex digits; bound to the master key, so comparing it tells an exchanged repository. */
  readonly id: string;
  readonly url: string;
  readonly encrypted: boolean;
  readonly config: RepositoryConfig;
  /** For worker threads: plain data. */
  readonly chunks: ChunkSpec;
  readonly keys: RepositoryKeys;

  /** Newest first; unreadable ones are listed as damaged. */
  listBackups(signal: AbortSignal): Promise<readonly BackupListing[]>;
  /** @param ref an id, a unique start of one, `latest`, `NAME@latest`. Throws `not-found`, `conflict` (candidates), `damaged`. */
  findBackup(ref: string, signal: AbortSignal): Promise<BackupManifest>;
  /** An entry's bytes, every chunk compared with its id and the whole with its digest. Throws `damaged`, `not-found`. */
  readEntry(manifest: BackupManifest, entryName: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  contents(manifest: BackupManifest): BackupContents;

  beginBackup(options: BeginBackup, signal: AbortSignal): Promise<BackupWriter>;
  /** Removes a backup, readable or not; its packs go with a later collection. Returns its id. Throws `conflict` when it is held. */
  deleteBackup(ref: string, signal: AbortSignal): Promise<string>;
  hold(ref: string, reason: string, signal: AbortSignal): Promise<Hold>;
  /** Ends the hold of a backup, readable or not. Returns its id. Throws `not-found` when it is not held. */
  release(ref: string, signal: AbortSignal): Promise<string>;
  listHolds(signal: AbortSignal): Promise<readonly Hold[]>;

  check(options: CheckOptions, signal: AbortSignal): Promise<CheckReport>;
  collect(options: CollectOptions, signal: AbortSignal): Promise<CollectReport>;
}

export interface BeginBackup {
  /** What the backups are listed under; its last backup is the one that chunks are compared with. */
  readonly database: string;
  /** Default: now. */
  readonly startedAt?: Date;
}

export interface RepositorySettings {
  readonly surroundings?: Surroundings;
  /** See `CollectTimes`; longer than a commit takes, far shorter than `sweepAfterMs`. Default one hour. */
  readonly listingFreshMs?: number;
  /** For tests that leave one out. */
  readonly commitSteps?: CommitSteps;
}

export interface InitOptions extends RepositorySettings {
  /** `{ kind: 'none' }` makes an unencrypted repository. */
  readonly protection: KeyProtection;
  /** Of the first key. */
  readonly label?: string;
  readonly chunker?: ChunkerConfig;
  readonly packTargetBytes?: number;
}

export interface OpenOptions extends RepositorySettings {
  /**
   * Asked only when the repository is encrypted: a passphrase, an age identity (`AGE-SECRET-KEY-1…`) or a recovery key.
   */
  readonly secret: (signal: AbortSignal) => Promise<string>;
  /** Refuses a repository with another id: one that somebody put in its place, perhaps with a key they know. */
  readonly expectedId?: string;
}

/**
 * Makes a repository in an empty storage. `config` is written last: whatever breaks off before leaves no repository, and the call can
 * be repeated. Throws `conflict` when there is one.
 */
export async function initRepository(storage: Storage, options: InitOptions, signal: AbortSignal): Promise<Repository> {
  const surroundings = options.surroundings ?? SYSTEM;
  for await (const { name } of storage.list('', { signal })) {
    if (name.startsWith(KEYS_PREFIX)) continue;
    throw new CellarError(
      'conflict',
      name === CONFIG_NAME
        ? `There is a repository at ${storage.url} already.`
        : `${storage.url} is not empty: it holds ${name}.`,
      { hint: 'Choose another place for a new repository.' },
    );
  }
  const masterKey = surroundings.random(MASTER_KEY_BYTES);
  const opened: OpenedKeys = { masterKey, subkeys: deriveSubkeys(masterKey) };
  const config: RepositoryConfig = {
    format: FORMAT_VERSION,
    repositoryId: opened.subkeys.repositoryId,
    createdAt: new Date(surroundings.clock()).toISOString(),
    encrypted: options.protection.kind !== 'none',
    chunker: options.chunker ?? DEFAULT_CHUNKER,
    packTargetBytes: options.packTargetBytes ?? DEFAULT_PACK_TARGET_BYTES,
  };
  const bytes = writeSignedText(CONFIG_NAME, config, opened.subkeys);
  parseConfig(bytes);
  await storeKey(storage, opened, options.protection, options.label ?? 'first key', surroundings, signal);
  await storage.put(CONFIG_NAME, bytes, { signal });
  // Where creation is not exclusive, somebody else may have made one at the same moment: the storage decides whose it is.
  const stored = await readSmall(storage, CONFIG_NAME, MAX_SIGNED_TEXT_BYTES, { signal });
  if (!stored.equals(bytes)) {
    throw new CellarError('conflict', `Another repository was made at ${storage.url} at the same time.`);
  }
  return createRepository(storage, config, opened, { ...options, surroundings });
}

/** Throws `not-found`, `wrong-key`, `damaged`, `unsupported-format`, and `conflict` when it is not the expected one. */
export async function openRepository(storage: Storage, options: OpenOptions, signal: AbortSignal): Promise<Repository> {
  const config = await loadConfig(storage, signal);
  const { repositoryId, encrypted } = config.content;
  if (options.expectedId !== undefined && options.expectedId !== repositoryId) {
    throw new CellarError('conflict', `The repository at ${storage.url} is not the one it was.`, {
      hint: 'Somebody replaced it, or the address is that of another repository.',
      details: { expected: options.expectedId, found: repositoryId },
    });
  }
  const opened = encrypted
    ? await openWithSecret(storage, repositoryId, await options.secret(signal), signal)
    : await openWithoutSecret(storage, repositoryId, signal);
  if (!config.signedBy(opened.subkeys)) throw exchangedConfig();
  return createRepository(storage, config.content, opened, options);
}

function createRepository(
  storage: Storage,
  config: RepositoryConfig,
  opened: OpenedKeys,
  settings: RepositorySettings,
): Repository {
  const { subkeys } = opened;
  const surroundings = settings.surroundings ?? SYSTEM;
  const shelf: BackupShelf = { storage, subkeys, surroundings };
  const idOf = chunkIds(subkeys.chunkIds);
  const reader = new PackReader(storage, subkeys, idOf);

  function readEntry(manifest: BackupManifest, entryName: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const object = backupName(databaseHash(subkeys, manifest.database), manifest.id);
    const source = { reader, object, packs: packTable(manifest) };
    return readStoredEntry(source, findEntry(manifest, entryName), signal);
  }

  return {
    id: config.repositoryId,
    url: storage.url,
    encrypted: config.encrypted,
    config,
    chunks: { chunker: config.chunker, gearTable: subkeys.gearTable, chunkIdKey: subkeys.chunkIds },
    keys: repositoryKeys(storage, opened, config.encrypted, surroundings),

    listBackups: (signal) => listBackups(shelf, signal),

    async findBackup(ref, signal) {
      return await loadManifest(storage, await resolveBackup(shelf, ref, signal), subkeys, signal);
    },

    readEntry,

    contents: (manifest) => ({
      source: manifest.source,
      entries: manifest.entries,
      part: partOf(manifest.options.filters),
      sizeOf: (entry: Entry) => findEntry(manifest, entry.name).bytes,
      open: (entry: Entry, signal: AbortSignal) => readEntry(manifest, entry.name, signal),
    }),

    async beginBackup({ database, startedAt }, signal) {
      if (database === '') throw new CellarError('invalid-input', 'A database needs a name to be backed up under.');
      const hash = databaseHash(subkeys, database);
      const { requests } = surroundings;
      const reuse = await findReuse({ storage, subkeys, reader, requests, database: hash }, signal);
      return createBackupWriter({
        storage,
        subkeys,
        surroundings,
        reader,
        idOf,
        packTargetBytes: config.packTargetBytes,
        listingFreshMs: settings.listingFreshMs ?? LISTING_FRESH_MS,
        steps: settings.commitSteps ?? ALL_STEPS,
        id: newUlid(surroundings, reuse.newestId === undefined ? -1 : decodeTime(reuse.newestId)),
        database,
        databaseHash: hash,
        startedAt: startedAt ?? new Date(surroundings.clock()),
        reuse,
      });
    },

    async deleteBackup(ref, signal) {
      const name = await resolveBackup(shelf, ref, signal);
      await deleteBackup(shelf, name, signal);
      return name.id;
    },

    async hold(ref, reason, signal) {
      return await holdBackup(shelf, await resolveBackup(shelf, ref, signal), reason, signal);
    },

    async release(ref, signal) {
      const name = await resolveBackup(shelf, ref, signal);
      await releaseBackup(shelf, name, signal);
      return name.id;
    },

    listHolds: (signal) => listHolds(shelf, signal),
    // With a reader of its own: what is verified is what the storage holds now.
    check: (options, signal) => checkRepository(shelf, new PackReader(storage, subkeys, idOf), options, signal),
    collect: (options, signal) => collectGarbage(shelf, options, signal),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() as Promise<void>,
  };
}
