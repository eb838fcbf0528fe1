/**
 * The cryptography of the format: keys derived from the master key, and authenticated encryption. Nothing else calls a cipher.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

export const MASTER_KEY_BYTES = 32;
export const TAG_BYTES = 16;
export const NONCE_BYTES = 12;

/** What the subkeys are for: see docs/repository-format.md, section 2. */
export interface Subkeys {
  /** 32 hex digits: derived, so that the id binds the key. */
  readonly repositoryId: string;
  readonly signatures: Buffer;
  readonly documents: Buffer;
  readonly packs: Buffer;
  readonly chunkIds: Buffer;
  readonly gearTable: Buffer;
  readonly databaseNames: Buffer;
}

export function deriveSubkeys(masterKey: Uint8Array): Subkeys {
  const derive = (purpose: string, length: number) => hkdf(masterKey, new Uint8Array(0), `cellar/1/${purpose}`, length);
  return {
    repositoryId: derive('repository-id', 16).toString('hex'),
    signatures: derive('signatures', 32),
    documents: derive('documents', 32),
    packs: derive('packs', 32),
    chunkIds: derive('chunk-ids', 32),
    gearTable: derive('gear-table', 1024),
    databaseNames: derive('database-names', 32),
  };
}

/** HKDF-SHA256 (RFC 5869). */
export function hkdf(key: Uint8Array, salt: Uint8Array, info: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, length));
}

export function hmac(key: Uint8Array, ...parts: readonly (Uint8Array | string)[]): Buffer {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** AES-256-GCM; the pieces, in order, are ciphertext and tag: together `TAG_BYTES` longer than the plaintext. */
export function sealPieces(
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  associated: Uint8Array,
): Buffer[] {
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associated);
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return [ciphertext, cipher.getAuthTag()];
}

export function seal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Buffer {
  return Buffer.concat(sealPieces(key, nonce, plaintext, associated));
}

/** The plaintext, or undefined when key, nonce, associated data or a single bit is not what it was. */
export function unseal(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  associated: Uint8Array,
): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plaintext;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
