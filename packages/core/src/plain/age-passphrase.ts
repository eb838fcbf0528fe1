/**
 * Passphrases for age files: the `scrypt` stanza of the age format. The age-encryption package has it too, but computes it for a
 * second or more on the calling thread; this one uses Node's scrypt on a thread of its own.
 */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { type Identity, type Recipient, Stanza } from 'age-encryption';
import { CellarError } from '../errors.ts';

/** Half a second and 128 MiB, as for a repository's passphrase. */
const WORK_FACTOR = 17;
/** 1 GiB; more is refused, since the file could ask for any amount. */
const HIGHEST_WORK_FACTOR = 20;
const SALT = 16;
const TAG = 16;
const FILE_KEY = 16;

export class PassphraseRecipient implements Recipient {
  readonly #passphrase: string;

  constructor(passphrase: string) {
    this.#passphrase = passphrase;
  }

  async wrapFileKey(fileKey: Uint8Array): Promise<Stanza[]> {
    const salt = randomBytes(SALT);
    const key = await stretch(this.#passphrase, salt, WORK_FACTOR);
    // The key is used once, so the nonce is zero (age specification, "The scrypt recipient type").
    const cipher = createCipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: TAG });
    const sealed = cipher.update(fileKey);
    cipher.final();
    const body = Buffer.concat([sealed, cipher.getAuthTag()]);
    return [new Stanza(['scrypt', base64(salt), String(WORK_FACTOR)], body)];
  }
}

export class PassphraseIdentity implements Identity {
  readonly #passphrase: string;

  constructor(passphrase: string) {
    this.#passphrase = passphrase;
  }

  async unwrapFileKey(stanzas: Stanza[]): Promise<Uint8Array | null> {
    const stanza = stanzas.find(({ args }) => args[0] === 'scrypt');
    if (stanza === undefined) return null;
    const [, saltText = '', factorText = '', ...more] = stanza.args;
    const salt = Buffer.from(saltText, 'base64');
    const factor = /^[1-9]\d?$/.test(factorText) ? Number(factorText) : 0;
    const sealed = Buffer.from(stanza.body);
    if (stanzas.length !== 1 || more.length > 0 || base64(salt) !== saltText || salt.length !== SALT || factor === 0) {
      throw new CellarError('damaged', 'The encrypted file is damaged: its passphrase entry is not as age writes it.');
    }
    if (sealed.length !== FILE_KEY + TAG)
      throw new CellarError('damaged', 'The encrypted file is damaged: its key is cut.');
    if (factor > HIGHEST_WORK_FACTOR) {
      throw new CellarError(
        'unsupported-format',
        `The passphrase entry asks for ${2 ** (factor - 10)} MiB of memory.`,
        {
          hint: 'Decrypt the file with the age tool, if you trust it.',
        },
      );
    }
    const key = await stretch(this.#passphrase, salt, factor);
    const decipher = createDecipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: TAG });
    decipher.setAuthTag(sealed.subarray(FILE_KEY));
    const fileKey = decipher.update(sealed.subarray(0, FILE_KEY));
    try {
      decipher.final();
    } catch {
      return null;
    }
    return fileKey;
  }
}

function stretch(passphrase: string, salt: Buffer, factor: number): Promise<Buffer> {
  const labelled = Buffer.concat([Buffer.from('age-encryption.org/v1/scrypt'), salt]);
  const memory = 128 * 2 ** factor * 8;
  return new Promise((resolve, reject) => {
    scrypt(passphrase, labelled, 32, { N: 2 ** factor, r: 8, p: 1, maxmem: memory + 2 ** 20 }, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
