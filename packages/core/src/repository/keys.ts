/**
 * The keys of a repository: opening it with a secret, and adding, listing and removing keys. All of them wrap the same master key,
 * so a change of passphrase writes one small object and removes another; packs and backups stay as they are.
 */
import { CellarError, isCellarError } from '../errors.ts';
import { type ObjectName, readSmall, type Storage } from '../storage/storage.ts';
import { deriveSubkeys, type Subkeys } from './crypto.ts';
import { KEYS_PREFIX, keyName, MAX_SIGNED_TEXT_BYTES } from './format.ts';
import {
  type KeyObject,
  type KeyProtection,
  parseKeyObject,
  unwrapByIdentity,
  unwrapByPassphrase,
  wrapMasterKey,
} from './key-object.ts';
import { formatRecoveryKey, isRecoveryKey, parseRecoveryKey } from './recovery-key.ts';
import { type SignedText, writeSignedText } from './signed-text.ts';
import type { Surroundings } from './surroundings.ts';

/** Passphrase keys that are tried with one passphrase: each costs half a second. */
const MAX_TRIED_KEYS = 32;

export interface KeyFacts {
  readonly id: string;
  readonly label: string;
  readonly createdAt: Date;
  readonly kind: KeyProtection['kind'];
  /** Public keys, for a key of kind `age`. */
  readonly recipients: readonly string[];
}

/** What belongs on paper, away from the machine: enough to restore with nothing but the storage. */
export interface RecoveryKit {
  readonly repositoryId: string;
  readonly url: string;
  readonly keyIds: readonly string[];
  /** Opens the repository wherever a passphrase is asked for. A secret. */
  readonly recoveryKey: string;
}

export interface RepositoryKeys {
  list(signal: AbortSignal): Promise<readonly KeyFacts[]>;
  add(protection: KeyProtection, label: string, signal: AbortSignal): Promise<KeyFacts>;
  /** `not-found`, or `conflict` for the last key that opens the repository. Those who know the master key still do. */
  remove(id: string, signal: AbortSignal): Promise<void>;
  kit(signal: AbortSignal): Promise<RecoveryKit>;
}

export interface OpenedKeys {
  readonly masterKey: Buffer;
  readonly subkeys: Subkeys;
}

interface StoredKey {
  readonly name: ObjectName;
  readonly key: SignedText<KeyObject>;
}

/** Every readable key object; damaged ones are left out, since another may open the repository. */
async function storedKeys(storage: Storage, signal: AbortSignal): Promise<StoredKey[]> {
  const found: StoredKey[] = [];
  for await (const { name } of storage.list(KEYS_PREFIX, { signal })) {
    if (!/^keys\/[0-9a-f]{16}$/.test(name)) continue;
    try {
      const bytes = await readSmall(storage, name, MAX_SIGNED_TEXT_BYTES, { signal });
      found.push({ name, key: parseKeyObject(name, bytes) });
    } catch (error) {
      if (!isCellarError(error, 'damaged') && !isCellarError(error, 'not-found')) throw error;
    }
  }
  return found.sort((a, b) => (a.key.content.createdAt < b.key.content.createdAt ? -1 : 1));
}

/** Opens an unencrypted repository. `not-found` when the key object is missing or damaged. */
export async function openWithoutSecret(
  storage: Storage,
  repositoryId: string,
  signal: AbortSignal,
): Promise<OpenedKeys> {
  for (const { key } of await storedKeys(storage, signal)) {
    if (key.content.wrapping.kind !== 'none') continue;
    const opened = accept(Buffer.from(key.content.wrapping.masterKey, 'base64'), repositoryId);
    if (opened !== undefined) return opened;
  }
  throw new CellarError('wrong-key', `No object under ${KEYS_PREFIX} opens the repository at ${storage.url}.`, {
    hint: 'The key is missing or damaged. Open the repository with the recovery key of its recovery kit.',
  });
}

/**
 * @param secret a passphrase, an age identity (`AGE-SECRET-KEY-1…`) or a recovery key (`CELLAR-KEY-1-…`).
 * Throws `wrong-key` when it opens none of the keys.
 */
export async function openWithSecret(
  storage: Storage,
  repositoryId: string,
  secret: string,
  signal: AbortSignal,
): Promise<OpenedKeys> {
  const opened = isRecoveryKey(secret)
    ? accept(parseRecoveryKey(secret), repositoryId)
    : await tryKeys(storage, repositoryId, secret, signal);
  if (opened !== undefined) return opened;
  throw new CellarError('wrong-key', `The passphrase or key does not open the repository at ${storage.url}.`, {
    hint: 'Check it for typing errors. The recovery key of the recovery kit opens the repository too.',
  });
}

async function tryKeys(
  storage: Storage,
  repositoryId: string,
  secret: string,
  signal: AbortSignal,
): Promise<OpenedKeys | undefined> {
  const isIdentity = secret.trim().toUpperCase().startsWith('AGE-SECRET-KEY-');
  const keys = await storedKeys(storage, signal);
  for (const { key } of keys.slice(0, MAX_TRIED_KEYS)) {
    const masterKey = isIdentity
      ? await unwrapByIdentity(key.content, secret.trim())
      : await unwrapByPassphrase(key.content, secret);
    const opened = masterKey === undefined ? undefined : accept(masterKey, repositoryId);
    if (opened !== undefined) return opened;
  }
  return undefined;
}

/** A master key is this repository's when the repository's id is derived from it. */
function accept(masterKey: Buffer, repositoryId: string): OpenedKeys | undefined {
  const subkeys = deriveSubkeys(masterKey);
  return subkeys.repositoryId === repositoryId ? { masterKey, subkeys } : undefined;
}

export async function storeKey(
  storage: Storage,
  { masterKey, subkeys }: OpenedKeys,
  protection: KeyProtection,
  label: string,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<KeyFacts> {
  const key = await wrapMasterKey(masterKey, protection, label, surroundings);
  const name = keyName(key.id);
  await storage.put(name, writeSignedText(name, key, subkeys), { signal });
  return factsOf(key);
}

export function repositoryKeys(
  storage: Storage,
  opened: OpenedKeys,
  encrypted: boolean,
  surroundings: Surroundings,
): RepositoryKeys {
  const { masterKey, subkeys } = opened;
  /** Keys that a holder of the master key made: others open nothing, whatever they say. */
  const genuine = async (signal: AbortSignal) =>
    (await storedKeys(storage, signal)).filter(({ key }) => key.signedBy(subkeys));

  return {
    async list(signal) {
      return (await genuine(signal)).map(({ key }) => factsOf(key.content));
    },

    async add(protection, label, signal) {
      if (encrypted === (protection.kind === 'none')) {
        throw new CellarError(
          'invalid-input',
          encrypted
            ? 'A key without protection would open an encrypted repository for everybody.'
            : 'This repository is not encrypted: its key is readable by everybody, and another one protects nothing.',
          { hint: 'Whether a repository is encrypted is chosen when it is made, with "cellar init".' },
        );
      }
      return await storeKey(storage, opened, protection, label, surroundings, signal);
    },

    async remove(id, signal) {
      const keys = await genuine(signal);
      const key = keys.find((candidate) => candidate.key.content.id === id);
      if (key === undefined) {
        throw new CellarError('not-found', `The repository has no key ${JSON.stringify(id)}.`, {
          hint: 'List the keys with "cellar key list".',
        });
      }
      if (keys.length === 1) {
        throw new CellarError('conflict', `Key ${id} is the last one that opens the repository.`, {
          hint: 'Add another key first.',
        });
      }
      await storage.delete(key.name, { signal });
    },

    async kit(signal) {
      return {
        repositoryId: subkeys.repositoryId,
        url: storage.url,
        keyIds: (await genuine(signal)).map(({ key }) => key.content.id),
        recoveryKey: formatRecoveryKey(masterKey),
      };
    },
  };
}

function factsOf({ id, label, createdAt, wrapping }: KeyObject): KeyFacts {
  return {
    id,
    label,
    createdAt: new Date(createdAt),
    kind: wrapping.kind,
    recipients: wrapping.kind === 'age' ? wrapping.recipients : [],
  };
}
