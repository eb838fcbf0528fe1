import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { describe, expect, it } from 'vitest';
import { isCellarError } from '../errors.ts';
import { type AgeEncryption, type AgeKeys, ageDecrypt, ageEncrypt, NO_AGE_KEYS, parseAgeIdentities } from './age.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const CHUNK = 64 * 1024;

async function* pieces(bytes: Uint8Array, size = 50_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = Uint8Array.from(bytes.subarray(at, at + size));
    yield piece;
    piece.fill(0);
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const piece of source) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

function encrypted(bytes: Uint8Array, encryption: AgeEncryption): Promise<Buffer> {
  return collect(ageEncrypt(pieces(bytes), encryption, signal));
}

function decrypted(bytes: Uint8Array, keys: AgeKeys, size?: number): Promise<Buffer> {
  return collect(ageDecrypt(pieces(bytes, size), keys, signal));
}

async function keyPair(): Promise<{ readonly keys: AgeKeys; readonly to: AgeEncryption; readonly identity: string }> {
  const identity = await generateIdentity();
  const recipient = await identityToRecipient(identity);
  return {
    identity,
    keys: { identities: [identity], passphrases: [] },
    to: { kind: 'recipients', recipients: [recipient] },
  };
}

function filled(length: number): Buffer {
  return Buffer.alloc(length, 'a backup of the brewery, ');
}

function withPassphrase(passphrase: string): AgeKeys {
  return { identities: [], passphrases: [passphrase] };
}

const LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 500_001];
const WRONG_KEY = (error: unknown) => isCellarError(error, 'wrong-key');
const DAMAGED = (error: unknown) => isCellarError(error, 'damaged');

describe('encrypting with age', () => {
  it.each(LENGTHS)('gives %i bytes back, read in pieces of any size', async (length) => {
    const { keys, to } = await keyPair();
    const file = await encrypted(filled(length), to);
    for (const size of [1000, 65_552, 1_000_000])
      expect((await decrypted(file, keys, size)).equals(filled(length))).toBe(true);
  });

  it('opens for each of several recipients, and for nobody else', async () => {
    const [one, two, other] = [await keyPair(), await keyPair(), await keyPair()];
    const recipients = [one, two].flatMap(({ to }) => (to.kind === 'recipients' ? to.recipients : []));
    const file = await encrypted(filled(1000), { kind: 'recipients', recipients });
    expect((await decrypted(file, one.keys)).equals(filled(1000))).toBe(true);
    expect((await decrypted(file, two.keys)).equals(filled(1000))).toBe(true);
    await expect(decrypted(file, other.keys)).rejects.toSatisfy(WRONG_KEY);
    await expect(decrypted(file, NO_AGE_KEYS)).rejects.toThrow(/needs an age identity/);
    await expect(decrypted(file, withPassphrase('x'))).rejects.toSatisfy(WRONG_KEY);
  });

  it('opens with the passphrase, and with no other', async () => {
    const file = await encrypted(filled(1000), { kind: 'passphrase', passphrase: 'pâle ale' });
    expect((await decrypted(file, { identities: [], passphrases: ['wrong', 'pâle ale'] })).equals(filled(1000))).toBe(
      true,
    );
    await expect(decrypted(file, withPassphrase('pale ale'))).rejects.toSatisfy(WRONG_KEY);
    await expect(decrypted(file, NO_AGE_KEYS)).rejects.toThrow(/needs an age passphrase/);
  });

  it('notices every cut and every changed byte', async () => {
    const { keys, to } = await keyPair();
    const file = await encrypted(filled(2 * CHUNK + 10), to);
    const payload = file.length - (2 * CHUNK + 10 + 3 * 16);
    const cuts = [0, 5, payload - 17, payload - 1, payload, payload + 15, payload + 16];
    cuts.push(payload + CHUNK + 16, payload + 2 * (CHUNK + 16), file.length - 1);
    for (const length of cuts) {
      await expect(decrypted(file.subarray(0, length), keys), `cut to ${length}`).rejects.toSatisfy(DAMAGED);
    }
    for (const at of [0, 30, payload - 20, payload - 1, payload, payload + CHUNK + 100, file.length - 1]) {
      const changed = Buffer.from(file);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const reading = decrypted(changed, keys);
      await expect(reading, `changed at ${at}`).rejects.toSatisfy((error) => DAMAGED(error) || WRONG_KEY(error));
    }
    const [a, b] = [payload, payload + CHUNK + 16];
    const swapped = Buffer.concat([
      file.subarray(0, a),
      file.subarray(b, b + CHUNK + 16),
      file.subarray(a, b),
      file.subarray(b + CHUNK + 16),
    ]);
    await expect(decrypted(swapped, keys)).rejects.toSatisfy(DAMAGED);
    await expect(decrypted(Buffer.concat([file, Buffer.from('x')]), keys)).rejects.toSatisfy(DAMAGED);
  });

  it('refuses recipients that are none, without showing what may be a secret', async () => {
    const { identity } = await keyPair();
    const attempt = encrypted(filled(1), { kind: 'recipients', recipients: [identity] });
    await expect(attempt).rejects.toSatisfy((error) => {
      return isCellarError(error, 'invalid-input') && !`${error.message} ${error.hint}`.includes(identity);
    });
    await expect(encrypted(filled(1), { kind: 'recipients', recipients: [] })).rejects.toThrow(/no age recipient/);
  });

  it('reads identity files as age-keygen writes them', async () => {
    const { identity } = await keyPair();
    expect(parseAgeIdentities(`# created: today\n# public key: age1…\n${identity}\n`)).toEqual([identity]);
    expect(() => parseAgeIdentities('ssh-ed25519 AAAA')).toThrow(/no age secret key/);
    expect(() => parseAgeIdentities('')).toThrow(/no age secret key/);
  });
});

function hasTools(...tools: readonly string[]): boolean {
  return tools.every((tool) => spawnSync(tool, ['--version']).status === 0);
}

/** The stock tool asks for passphrases on a terminal only: `script` gives it one. */
async function ageOnTerminal(args: readonly string[], answers: readonly string[]): Promise<void> {
  const child = spawn('script', ['-qefc', `age ${args.map((arg) => `'${arg}'`).join(' ')}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const left = [...answers];
  let said = '';
  child.stdout.on('data', (piece: Buffer) => {
    said += piece.toString();
    if (!/passphrase[^\n]*: ?$/i.test(said)) return;
    said = '';
    child.stdin.write(`${left.shift() ?? ''}\n`);
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code).toBe(0);
}

describe.skipIf(!hasTools('age', 'age-keygen', 'script'))('beside the stock age', () => {
  it('is opened by it and opens its files, by key', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cellar-age-'));
    try {
      const identityFile = join(folder, 'key.txt');
      await run('age-keygen', ['-o', identityFile]);
      const { stdout } = await run('age-keygen', ['-y', identityFile]);
      const recipient = stdout.trim();
      const bytes = filled(3 * CHUNK + 7);

      await writeFile(
        join(folder, 'ours.age'),
        await encrypted(bytes, { kind: 'recipients', recipients: [recipient] }),
      );
      await run('age', ['-d', '-i', identityFile, '-o', join(folder, 'ours'), join(folder, 'ours.age')]);
      expect((await readFile(join(folder, 'ours'))).equals(bytes)).toBe(true);

      await writeFile(join(folder, 'theirs'), bytes);
      await run('age', ['-r', recipient, '-o', join(folder, 'theirs.age'), join(folder, 'theirs')]);
      const identities = parseAgeIdentities(await readFile(identityFile, 'utf8'));
      const opened = await decrypted(await readFile(join(folder, 'theirs.age')), { identities, passphrases: [] });
      expect(opened.equals(bytes)).toBe(true);

      await run('age', ['-a', '-r', recipient, '-o', join(folder, 'armored.age'), join(folder, 'theirs')]);
      const armored = decrypted(await readFile(join(folder, 'armored.age')), { identities, passphrases: [] });
      await expect(armored).rejects.toSatisfy((error) => isCellarError(error, 'unsupported-format'));
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('is opened by it and opens its files, by passphrase', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cellar-age-'));
    try {
      const bytes = filled(100_000);
      await writeFile(join(folder, 'ours.age'), await encrypted(bytes, { kind: 'passphrase', passphrase: 'pale ale' }));
      await ageOnTerminal(['-d', '-o', join(folder, 'ours'), join(folder, 'ours.age')], ['pale ale']);
      expect((await readFile(join(folder, 'ours'))).equals(bytes)).toBe(true);

      await writeFile(join(folder, 'theirs'), bytes);
      const answers = ['amber ale', 'amber ale'];
      await ageOnTerminal(['-p', '-o', join(folder, 'theirs.age'), join(folder, 'theirs')], answers);
      const opened = await decrypted(await readFile(join(folder, 'theirs.age')), withPassphrase('amber ale'));
      expect(opened.equals(bytes)).toBe(true);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
