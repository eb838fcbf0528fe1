/**
 * Sealed documents: manifests, holds and tombstones. JSON, compressed, padded and encrypted, bound to the object's name, so that none
 * can be read without the key, changed, moved to another name or replayed under it.
 */
import type { z } from 'zod';
import { type ObjectName, readSmall, type Storage } from '../storage/storage.ts';
import { compressDocument, decompress } from './compression.ts';
import { hkdf, NONCE_BYTES, type Subkeys, seal, unseal } from './crypto.ts';
import { damaged, MAX_DOCUMENT_BYTES, MAX_DOCUMENT_RAW_BYTES, unsupported } from './format.ts';
import { parseDocument } from './signed-text.ts';
import type { Surroundings } from './surroundings.ts';

const MAGIC = Buffer.from('CELLARD\x01', 'latin1');
const SALT_BYTES = 16;
const PADDING = 1024;
/** A key is used for one document, so its nonce need not differ. */
const NONCE = Buffer.alloc(NONCE_BYTES);

export function writeDocument(name: ObjectName, content: object, keys: Subkeys, { random }: Surroundings): Buffer {
  const compressed = compressDocument(Buffer.from(JSON.stringify(content)));
  const plaintext = Buffer.alloc(Math.ceil((4 + compressed.length) / PADDING) * PADDING);
  plaintext.writeUInt32BE(compressed.length);
  compressed.copy(plaintext, 4);
  const salt = random(SALT_BYTES);
  return Buffer.concat([MAGIC, salt, seal(documentKey(keys, salt), NONCE, plaintext, Buffer.from(name))]);
}

/** Throws `damaged`, naming the object, or `unsupported-format`. */
export function readDocument<T>(name: ObjectName, bytes: Buffer, keys: Subkeys, schema: z.ZodType<T>): T {
  const start = MAGIC.length + SALT_BYTES;
  if (bytes.length < start || !bytes.subarray(0, 7).equals(MAGIC.subarray(0, 7))) {
    throw damaged(name, 'it does not begin as a document does');
  }
  const salt = bytes.subarray(MAGIC.length, start);
  const plaintext = unseal(documentKey(keys, salt), NONCE, bytes.subarray(start), Buffer.from(name));
  if (bytes[7] !== MAGIC[7]) {
    // A version that opens with this version's key is this version with a flipped bit.
    throw plaintext === undefined
      ? unsupported(name, bytes[7])
      : damaged(name, 'its version is not the one it was written with');
  }
  if (plaintext === undefined) throw damaged(name, 'its seal does not open');
  const length = plaintext.length < 4 ? -1 : plaintext.readUInt32BE();
  if (length < 0 || 4 + length > plaintext.length) throw damaged(name, 'its length is not possible');
  const text = decompress(plaintext.subarray(4, 4 + length), MAX_DOCUMENT_RAW_BYTES);
  if (text === undefined) throw damaged(name, 'it does not unpack');
  return parseDocument(name, text.toString('utf8'), schema);
}

export async function loadDocument<T>(
  storage: Storage,
  name: ObjectName,
  keys: Subkeys,
  schema: z.ZodType<T>,
  signal: AbortSignal,
): Promise<T> {
  return readDocument(name, await readSmall(storage, name, MAX_DOCUMENT_BYTES, { signal }), keys, schema);
}

function documentKey(keys: Subkeys, salt: Uint8Array): Buffer {
  return hkdf(keys.documents, salt, 'cellar/1/document', 32);
}
