/**
 * One object under `keys/`: the master key, wrapped by a passphrase, for age recipients, or (unencrypted repositories) not at all.
 * Parameters of the passphrase hash are read from the object, within bounds, so that a hostile one cannot exhaust the machine.
 */
import { type ScryptOptions, scrypt } from 'node:crypto';
import { Decrypter, Encrypter } from 'age-encryption';
import { z } from 'zod';
import { CellarError } from '../errors.ts';
import type { ObjectName } from '../storage/storage.ts';
import { MASTER_KEY_BYTES, NONCE_BYTES, seal, unseal } from './crypto.ts';
import { damaged, FORMAT_VERSION, keyName } from './format.ts';
import { readSignedText, type SignedText } from './signed-text.ts';
import type { Surroundings } from './surroundings.ts';

/** How a new key wraps the master key. */
export type KeyProtection =
  | { readonly kind: 'none' }
  | { readonly kind: 'passphrase'; readonly passphrase: string; readonly cost?: ScryptCost }
  /** Public keys, `age1…`. */
  | { readonly kind: 'age'; readonly recipients: readonly string[] };

/** scrypt's N: a power of two. */
export type ScryptCost = number;
const DEFAULT_COST: ScryptCost = 2 ** 17;
const MAX_SCRYPT_MEMORY = 512 << 20;

const base64 = (bytes: number) =>
  z.base64().refine((text) => Buffer.from(text, 'base64').length === bytes, `it must be ${bytes} bytes`);

const wrapping = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('none'), masterKey: base64(MASTER_KEY_BYTES) }),
  z
    .object({
      kind: z.literal('passphrase'),
      n: z
        .int()
        .min(2)
        .max(2 ** 24),
      r: z.int().min(1).max(64),
      p: z.int().min(1).max(8),
      salt: base64(32),
      nonce: base64(NONCE_BYTES),
      sealed: base64(MASTER_KEY_BYTES + 16),
    })
    .refine(({ n }) => Number.isInteger(Math.log2(n)), 'N must be a power of two')
    .refine(({ n, r }) => n * r * 128 <= MAX_SCRYPT_MEMORY, 'it asks for too much memory'),
  z.object({ kind: z.literal('age'), recipients: z.array(z.string()).min(1), sealed: z.base64().max(32768) }),
]);

const schema = z.object({
  format: z.literal(FORMAT_VERSION),
  id: z.string().regex(/^[0-9a-f]{16}$/),
  label: z.string(),
  createdAt: z.iso.datetime(),
  wrapping,
});

export type KeyObject = z.infer<typeof schema>;

/** Throws `damaged` or `unsupported-format`. */
export function parseKeyObject(name: ObjectName, bytes: Uint8Array): SignedText<KeyObject> {
  const key = readSignedText(name, bytes, schema);
  if (keyName(key.content.id) !== name) throw damaged(name, 'it is another key than its name says');
  return key;
}

export async function wrapMasterKey(
  masterKey: Uint8Array,
  protection: KeyProtection,
  label: string,
  surroundings: Surroundings,
): Promise<KeyObject> {
  const id = surroundings.random(8).toString('hex');
  const createdAt = new Date(surroundings.clock()).toISOString();
  return {
    format: FORMAT_VERSION,
    id,
    label,
    createdAt,
    wrapping: await wrap(keyName(id), masterKey, protection, surroundings),
  };
}

async function wrap(
  name: ObjectName,
  masterKey: Uint8Array,
  protection: KeyProtection,
  { random }: Surroundings,
): Promise<KeyObject['wrapping']> {
  if (protection.kind === 'none') return { kind: 'none', masterKey: Buffer.from(masterKey).toString('base64') };
  if (protection.kind === 'age') {
    const { recipients } = protection;
    return { kind: 'age', recipients: [...recipients], sealed: await encryptForRecipients(masterKey, recipients) };
  }
  if (protection.passphrase === '') {
    throw new CellarError('invalid-input', 'An empty passphrase protects nothing.', { hint: 'Choose a long one.' });
  }
  const cost = { n: protection.cost ?? DEFAULT_COST, r: 8, p: 1 };
  const salt = random(32);
  const nonce = random(NONCE_BYTES);
  const wrappingKey = await stretch(protection.passphrase, salt, cost);
  const sealed = seal(wrappingKey, nonce, masterKey, Buffer.from(name));
  return {
    kind: 'passphrase',
    ...cost,
    salt: salt.toString('base64'),
    nonce: nonce.toString('base64'),
    sealed: sealed.toString('base64'),
  };
}

async function encryptForRecipients(masterKey: Uint8Array, recipients: readonly string[]): Promise<string> {
  const encrypter = new Encrypter();
  if (recipients.length === 0) throw new CellarError('invalid-input', 'A key for age recipients needs at least one.');
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      throw new CellarError('invalid-input', `${JSON.stringify(recipient)} is not an age recipient.`, {
        hint: 'A recipient is the public key that age-keygen prints; it begins with "age1".',
        cause,
      });
    }
  }
  return Buffer.from(await encrypter.encrypt(masterKey)).toString('base64');
}

/** The master key, or undefined when this passphrase is not the key's, or the key is of another kind. */
export async function unwrapByPassphrase(key: KeyObject, passphrase: string): Promise<Buffer | undefined> {
  if (key.wrapping.kind !== 'passphrase') return undefined;
  const { salt, nonce, sealed } = key.wrapping;
  const wrappingKey = await stretch(passphrase, Buffer.from(salt, 'base64'), key.wrapping);
  return unseal(wrappingKey, Buffer.from(nonce, 'base64'), Buffer.from(sealed, 'base64'), Buffer.from(keyName(key.id)));
}

/** The master key, or undefined when this age identity is none of the key's recipients. Throws `invalid-input` on a malformed identity. */
export async function unwrapByIdentity(key: KeyObject, identity: string): Promise<Buffer | undefined> {
  if (key.wrapping.kind !== 'age') return undefined;
  const decrypter = new Decrypter();
  try {
    decrypter.addIdentity(identity);
  } catch (cause) {
    throw new CellarError('invalid-input', 'This is not an age identity.', {
      hint: 'An identity is the line that begins with "AGE-SECRET-KEY-1".',
      cause,
    });
  }
  try {
    const masterKey = await decrypter.decrypt(Buffer.from(key.wrapping.sealed, 'base64'));
    return masterKey.length === MASTER_KEY_BYTES ? Buffer.from(masterKey) : undefined;
  } catch {
    return undefined;
  }
}

/** scrypt in the thread pool; the passphrase in NFC, so that it is the same from every keyboard. */
function stretch(
  passphrase: string,
  salt: Uint8Array,
  { n, r, p }: { readonly n: number; readonly r: number; readonly p: number },
): Promise<Buffer> {
  const options: ScryptOptions = { N: n, r, p, maxmem: 256 * n * r };
  return new Promise((resolve, reject) => {
    scrypt(passphrase.normalize('NFC'), salt, 32, options, (error, key) => (error ? reject(error) : resolve(key)));
  });
}
