/**
 * Encryption of plain files in the age format (age-encryption.org/v1, specified at C2SP.org/age), which the stock `age` tool opens. The
 * header, where the public-key cryptography is, is made and read by the age-encryption package; the payload, where the bytes are, by
 * Node's own ChaCha20-Poly1305 (16 times as fast), and passphrases are stretched off the main thread.
 *
 *   header | nonce (16) | chunks of 64 KiB, each with its tag (16); the last one is marked in its nonce, so a cut is noticed
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { Decrypter, Encrypter, type Stanza } from 'age-encryption';
import { CellarError, throwIfAborted } from '../errors.ts';
import { PassphraseIdentity, PassphraseRecipient } from './age-passphrase.ts';

export type AgeEncryption =
  /** Public keys, `age1…`. */
  | { readonly kind: 'recipients'; readonly recipients: readonly string[] }
  | { readonly kind: 'passphrase'; readonly passphrase: string };

/** What may open a file. Secrets: never to be logged or stored. */
export interface AgeKeys {
  /** `AGE-SECRET-KEY-1…`. */
  readonly identities: readonly string[];
  readonly passphrases: readonly string[];
}

export const NO_AGE_KEYS: AgeKeys = { identities: [], passphrases: [] };

const CHUNK = 64 * 1024;
const TAG = 16;
const NONCE = 16;
const FIRST_LINE = 'age-encryption.org/v1\n';
/** A header holds some hundred bytes per recipient. */
const LONGEST_HEADER = 1024 * 1024;

/** Encrypts a stream of any length. Throws `invalid-input` for a recipient that is none. */
export async function* ageEncrypt(
  source: AsyncIterable<Uint8Array>,
  encryption: AgeEncryption,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal);
  const { header, fileKey } = await makeHeader(encryption);
  const nonce = randomBytes(NONCE);
  const payload = new Payload(fileKey, nonce);
  yield Buffer.concat([header, nonce]);
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  let filled = 0;
  for await (const piece of source) {
    throwIfAborted(signal);
    for (let at = 0; at < piece.length; ) {
      // A full chunk waits for the byte after it: only then is it known not to be the last.
      if (filled === CHUNK) {
        yield payload.seal(buffer, false);
        filled = 0;
      }
      const count = Math.min(piece.length - at, CHUNK - filled);
      buffer.set(piece.subarray(at, at + count), filled);
      filled += count;
      at += count;
    }
  }
  throwIfAborted(signal);
  yield payload.seal(buffer.subarray(0, filled), true);
}

/**
 * Decrypts a stream of any length; each piece is proven before it is yielded. Throws `wrong-key` when none of the keys opens it, and
 * `damaged` for what is no age file, was changed, or is cut.
 */
export async function* ageDecrypt(
  source: AsyncIterable<Uint8Array>,
  keys: AgeKeys,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal);
  let beginning = Buffer.alloc(0);
  let payload: Payload | undefined;
  const buffer = Buffer.allocUnsafeSlow(CHUNK + TAG);
  let filled = 0;
  for await (const piece of source) {
    throwIfAborted(signal);
    let rest = piece;
    if (payload === undefined) {
      beginning = Buffer.concat([beginning, piece]);
      const end = headerEnd(beginning);
      if (end === undefined || beginning.length < end + NONCE) continue;
      const fileKey = await openHeader(beginning.subarray(0, end), keys);
      payload = new Payload(fileKey, beginning.subarray(end, end + NONCE));
      rest = beginning.subarray(end + NONCE);
    }
    for (let at = 0; at < rest.length; ) {
      if (filled === buffer.length) {
        yield payload.open(buffer, false);
        filled = 0;
      }
      const count = Math.min(rest.length - at, buffer.length - filled);
      buffer.set(rest.subarray(at, at + count), filled);
      filled += count;
      at += count;
    }
  }
  throwIfAborted(signal);
  if (payload === undefined) throw damaged('it ends within its header');
  if (filled < TAG) throw damaged('it is cut off');
  yield payload.open(buffer.subarray(0, filled), true);
}

/** The secret keys in an identity file as `age-keygen` writes it: one a line, comments after `#`. Throws `invalid-input`. */
export function parseAgeIdentities(text: string): readonly string[] {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (lines.length === 0 || lines.some((line) => !/^AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]+$/.test(line))) {
    throw new CellarError('invalid-input', 'The identity file holds no age secret key, or something else besides.', {
      hint: 'It has one AGE-SECRET-KEY-1… a line, as age-keygen writes it.',
    });
  }
  return lines;
}

async function makeHeader(
  encryption: AgeEncryption,
): Promise<{ readonly header: Uint8Array; readonly fileKey: Uint8Array }> {
  const encrypter = new Encrypter();
  if (encryption.kind === 'passphrase') {
    if (encryption.passphrase === '') throw new CellarError('invalid-input', 'The passphrase is empty.');
    encrypter.addRecipient(new PassphraseRecipient(encryption.passphrase));
  } else {
    if (encryption.recipients.length === 0) throw new CellarError('invalid-input', 'There is no age recipient.');
    for (const recipient of encryption.recipients) addRecipient(encrypter, recipient);
  }
  const seen: Uint8Array[] = [];
  // Learns the file's key, and leaves nothing in the header.
  encrypter.addRecipient({
    wrapFileKey(key) {
      seen.push(Uint8Array.from(key));
      return [];
    },
  });
  const empty = await encrypter.encrypt(new Uint8Array(0));
  const [fileKey] = seen;
  if (fileKey === undefined) throw new Error('the age library asked no recipient to wrap the file key');
  return { header: empty.subarray(0, empty.length - NONCE - TAG), fileKey };
}

/** Throws `invalid-input` for what is no public key; does not quote it, since it may be a secret one by mistake. */
export function checkAgeRecipient(recipient: string): void {
  addRecipient(new Encrypter(), recipient);
}

function addRecipient(encrypter: Encrypter, recipient: string): void {
  try {
    encrypter.addRecipient(recipient);
  } catch (cause) {
    throw new CellarError('invalid-input', 'An age recipient is not a public key that age knows.', {
      hint: recipient.startsWith('AGE-SECRET-KEY')
        ? 'This is a secret key; its public key starts with age1 (age-keygen -y shows it).'
        : 'A public key starts with age1; age-keygen makes a pair.',
      cause,
    });
  }
}

async function openHeader(header: Buffer, keys: AgeKeys): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  for (const identity of keys.identities) {
    try {
      decrypter.addIdentity(identity);
    } catch (cause) {
      throw new CellarError('invalid-input', 'An age identity is not a secret key that age knows.', { cause });
    }
  }
  for (const passphrase of keys.passphrases) decrypter.addIdentity(new PassphraseIdentity(passphrase));
  const unopened: { stanzas?: readonly Stanza[] } = {};
  // Asked last: only when no key fits.
  decrypter.addIdentity({
    unwrapFileKey(stanzas) {
      unopened.stanzas = stanzas;
      return null;
    },
  });
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    if (unopened.stanzas !== undefined) throw wrongKey(unopened.stanzas, keys);
    throw cause instanceof CellarError ? cause : damaged('its header is broken', cause);
  }
}

/** The end of the header in `bytes`, undefined while more is needed. Throws `damaged` for what is no age file. */
function headerEnd(bytes: Buffer): number | undefined {
  const start = bytes.toString('latin1', 0, FIRST_LINE.length);
  if (!FIRST_LINE.startsWith(start)) {
    if ('-----BEGIN AGE'.startsWith(start.slice(0, 14))) {
      throw new CellarError('unsupported-format', 'The file is armored (text) age.', {
        hint: 'Turn it into a binary one: age -d | age -r …',
      });
    }
    throw damaged('it does not start as an age file does');
  }
  const mac = bytes.indexOf('\n--- ', FIRST_LINE.length - 1, 'latin1');
  const end = mac === -1 ? -1 : bytes.indexOf('\n', mac + 1, 'latin1');
  if (end !== -1) return end + 1;
  if (bytes.length > LONGEST_HEADER) throw damaged('its header has no end');
  return undefined;
}

function wrongKey(stanzas: readonly Stanza[], keys: AgeKeys): CellarError {
  const byPassphrase = stanzas.some((stanza) => stanza.args[0] === 'scrypt');
  const given = byPassphrase ? keys.passphrases.length : keys.identities.length;
  const needed = byPassphrase ? 'passphrase' : 'identity (secret key)';
  return new CellarError(
    'wrong-key',
    given === 0 ? `The file is encrypted and needs an age ${needed}.` : `No ${needed} that was given opens the file.`,
    {
      hint: byPassphrase
        ? 'Give the passphrase it was encrypted with.'
        : 'Give the identity file of one of its recipients.',
    },
  );
}

function damaged(how: string, cause?: unknown): CellarError {
  return new CellarError('damaged', `The encrypted file is damaged: ${how}.`, {
    hint: 'Use another backup, or another copy of this file.',
    cause,
  });
}

/** The chunks of one file, in order: an 11-byte counter and a byte that marks the last are the nonce. */
class Payload {
  readonly #key: Uint8Array;
  readonly #nonce = Buffer.alloc(12);

  constructor(fileKey: Uint8Array, nonce: Uint8Array) {
    this.#key = new Uint8Array(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
  }

  seal(chunk: Uint8Array, last: boolean): Buffer {
    const cipher = createCipheriv('chacha20-poly1305', this.#key, this.#next(last), { authTagLength: TAG });
    const sealed = cipher.update(chunk);
    cipher.final();
    return Buffer.concat([sealed, cipher.getAuthTag()]);
  }

  open(sealed: Buffer, last: boolean): Buffer {
    const first = this.#nonce.every((byte) => byte === 0);
    const decipher = createDecipheriv('chacha20-poly1305', this.#key, this.#next(last), { authTagLength: TAG });
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG));
    const chunk = decipher.update(sealed.subarray(0, sealed.length - TAG));
    try {
      decipher.final();
    } catch (cause) {
      throw damaged(last ? 'it was changed or is cut off' : 'it was changed', cause);
    }
    // An empty last chunk is there only when the file is empty, so that there is one way to write a file.
    if (last && !first && chunk.length === 0) throw damaged('its end is not as age writes it');
    return chunk;
  }

  #next(last: boolean): Buffer {
    const nonce = Buffer.from(this.#nonce);
    if (last) nonce[11] = 1;
    for (let at = 10; at >= 0; at--) {
      this.#nonce[at] = ((this.#nonce[at] ?? 0) + 1) & 255;
      if (this.#nonce[at] !== 0) break;
    }
    return nonce;
  }
}
