/**
 * The recovery key: the master key as text that fits on paper. It opens the repository when every passphrase is forgotten and every
 * object under `keys/` is lost. Format: docs/repository-format.md, section 2.
 */
import { createHash } from 'node:crypto';
import { CellarError } from '../errors.ts';
import { MASTER_KEY_BYTES } from './crypto.ts';

const PREFIX = 'CELLAR-KEY-1-';
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const CHECK_BYTES = 4;
const DIGITS = Math.ceil(((MASTER_KEY_BYTES + CHECK_BYTES) * 8) / 5);

export function isRecoveryKey(text: string): boolean {
  return text.trim().toUpperCase().startsWith('CELLAR-KEY-');
}

export function formatRecoveryKey(masterKey: Uint8Array): string {
  const bytes = Buffer.concat([masterKey, checksum(masterKey)]);
  let digits = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) digits += ALPHABET[(value >>> (bits - 5)) & 31];
    value &= 31;
  }
  if (bits > 0) digits += ALPHABET[(value << (5 - bits)) & 31];
  return PREFIX + (digits.match(/.{1,6}/g) ?? []).join('-');
}

/** Throws `invalid-input` when it was not copied right; the message does not repeat it. */
export function parseRecoveryKey(text: string): Buffer {
  const compact = text.toUpperCase().replace(/[\s-]/g, '');
  const prefix = PREFIX.replaceAll('-', '');
  // As Crockford's base32 has it: letters that are easily taken for digits count as these.
  const digits = compact.slice(prefix.length).replaceAll('O', '0').replace(/[IL]/g, '1');
  if (!compact.startsWith(prefix) || digits.length !== DIGITS)
    throw miscopied('it has not the right length or beginning');
  const bytes = Buffer.alloc(MASTER_KEY_BYTES + CHECK_BYTES);
  let bits = 0;
  let value = 0;
  let length = 0;
  for (const digit of digits) {
    const number = ALPHABET.indexOf(digit);
    if (number === -1) throw miscopied('it holds a character that a recovery key never has');
    value = (value << 5) | number;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[length++] = value >>> bits;
      value &= (1 << bits) - 1;
    }
  }
  const masterKey = bytes.subarray(0, MASTER_KEY_BYTES);
  if (value !== 0 || !checksum(masterKey).equals(bytes.subarray(MASTER_KEY_BYTES))) {
    throw miscopied('its checksum is wrong');
  }
  return masterKey;
}

function checksum(masterKey: Uint8Array): Buffer {
  return createHash('sha256').update(masterKey).digest().subarray(0, CHECK_BYTES);
}

function miscopied(why: string): CellarError {
  return new CellarError('invalid-input', `The recovery key was not copied right: ${why}.`, {
    hint: 'Compare it with the recovery kit, character by character.',
  });
}
