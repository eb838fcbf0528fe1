import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { initRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import { createMemoryStorage } from '../../src/storage/memory/memory-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { backUp, collectBytes, never, readAll, rows, whole } from './streams.ts';

const passphrase = (text: string) => ({ kind: 'passphrase', passphrase: text, cost: 1024 }) as const;
const open = (storage: Storage, secret: string): Promise<Repository> =>
  openRepository(storage, { secret: async () => secret }, never);

const streams = { t: [rows(20)] };

async function encrypted(): Promise<{ readonly storage: Storage; readonly repository: Repository }> {
  const storage = createMemoryStorage();
  const repository = await initRepository(storage, { protection: passphrase('first'), label: 'laptop' }, never);
  await backUp(repository, streams);
  return { storage, repository };
}

describe('an encrypted repository', () => {
  test('opens with each of its passphrases and no other', async () => {
    const { storage, repository } = await encrypted();
    const added = await repository.keys.add(passphrase('zweite Päßphrase'), 'office', never);
    expect((await repository.keys.list(never)).map(({ label, kind }) => [label, kind])).toEqual([
      ['laptop', 'passphrase'],
      ['office', 'passphrase'],
    ]);
    // Composed and decomposed letters are the same passphrase.
    for (const secret of ['first', 'zweite Päßphrase', 'zweite Päßphrase'.normalize('NFD')]) {
      const opened = await open(storage, secret);
      expect(await readAll(opened, await opened.findBackup('latest', never))).toEqual(whole(streams));
    }
    await expect(open(storage, 'second')).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(open(storage, '')).rejects.toMatchObject({ code: 'wrong-key' });

    const [first] = await repository.keys.list(never);
    await repository.keys.remove(first?.id ?? '', never);
    await expect(open(storage, 'first')).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(open(storage, 'zweite Päßphrase')).resolves.toMatchObject({ id: repository.id });
    await expect(repository.keys.remove(added.id, never)).rejects.toMatchObject({ code: 'conflict' });
    await expect(repository.keys.remove(first?.id ?? '', never)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('opens for the holders of age identities', async () => {
    const { storage, repository } = await encrypted();
    const [mine, theirs, stranger] = await Promise.all([1, 2, 3].map(() => generateX25519Identity()));
    if (mine === undefined || theirs === undefined || stranger === undefined) throw new Error('no identities');
    const recipients = await Promise.all([mine, theirs].map(identityToRecipient));
    const key = await repository.keys.add({ kind: 'age', recipients }, 'team', never);
    expect(key.recipients).toEqual(recipients);
    for (const identity of [mine, `${theirs}\n`]) {
      await expect(open(storage, identity)).resolves.toMatchObject({ id: repository.id });
    }
    await expect(open(storage, stranger)).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(open(storage, 'AGE-SECRET-KEY-1NONSENSE')).rejects.toMatchObject({ code: 'invalid-input' });
    await expect(repository.keys.add({ kind: 'age', recipients: ['age1nonsense'] }, '', never)).rejects.toMatchObject({
      code: 'invalid-input',
    });
  });

  test('opens with the recovery kit alone when every key object is lost', async () => {
    const { storage, repository } = await encrypted();
    const kit = await repository.keys.kit(never);
    expect(kit).toMatchObject({ repositoryId: repository.id, url: storage.url });
    for await (const { name } of storage.list('keys/', { signal: never }))
      await storage.delete(name, { signal: never });
    const opened = await open(storage, kit.recoveryKey);
    expect(await readAll(opened, await opened.findBackup('latest', never))).toEqual(whole(streams));
    await opened.keys.add(passphrase('anew'), 'anew', never);
    await expect(open(storage, 'anew')).resolves.toMatchObject({ id: repository.id });

    const other = await initRepository(createMemoryStorage(), { protection: passphrase('other') }, never);
    const { recoveryKey } = await other.keys.kit(never);
    await expect(open(storage, recoveryKey)).rejects.toMatchObject({ code: 'wrong-key' });
  });

  test('does not become readable by a key without protection', async () => {
    const { repository } = await encrypted();
    await expect(repository.keys.add({ kind: 'none' }, '', never)).rejects.toMatchObject({ code: 'invalid-input' });
    await expect(repository.keys.add(passphrase(''), '', never)).rejects.toMatchObject({ code: 'invalid-input' });
  });

  test('does not take a key object that somebody else put there for one of its own', async () => {
    const { storage, repository } = await encrypted();
    const strange = createMemoryStorage();
    await initRepository(strange, { protection: passphrase('strange') }, never);
    for await (const { name } of strange.list('keys/', { signal: never })) {
      await storage.put(name, await collectBytes(strange.get(name, { signal: never })), { signal: never });
    }
    expect(await repository.keys.list(never)).toHaveLength(1);
    await expect(open(storage, 'strange')).rejects.toMatchObject({ code: 'wrong-key' });
    const [own] = await repository.keys.list(never);
    await expect(repository.keys.remove(own?.id ?? '', never)).rejects.toMatchObject({ code: 'conflict' });
    expect((await repository.check({ level: 'structure' }, never)).findings).toHaveLength(1);
  });

  test('is noticed when it was exchanged for another one', async () => {
    const { storage, repository } = await encrypted();
    await expect(
      openRepository(storage, { secret: async () => 'first', expectedId: repository.id }, never),
    ).resolves.toBeDefined();
    const exchanged = createMemoryStorage();
    await initRepository(exchanged, { protection: { kind: 'none' } }, never);
    await expect(
      openRepository(exchanged, { secret: async () => 'first', expectedId: repository.id }, never),
    ).rejects.toMatchObject({ code: 'conflict' });
  });

  test('keeps passphrases out of what it stores and says', async () => {
    const { storage, repository } = await encrypted();
    const said = JSON.stringify([await repository.keys.list(never), repository.config]);
    expect(said).not.toContain('first"');
    for await (const { name } of storage.list('keys/', { signal: never })) {
      const stored = (await collectBytes(storage.get(name, { signal: never }))).toString();
      expect(stored).not.toMatch(/passphrase":"|masterKey/);
    }
    const error: unknown = await open(storage, 'my secret guess').catch((caught: unknown) => caught);
    expect(String(error)).not.toContain('my secret guess');
  });
});

test('the secret is asked for only when the repository is encrypted', async () => {
  const storage = createMemoryStorage();
  await initRepository(storage, { protection: { kind: 'none' } }, never);
  const secret = async (): Promise<string> => {
    throw new Error('asked');
  };
  await expect(openRepository(storage, { secret }, never)).resolves.toMatchObject({ encrypted: false });
  const { storage: closed } = await encrypted();
  await expect(openRepository(closed, { secret }, never)).rejects.toThrow('asked');
});

test('where there is no repository, it is not found', async () => {
  await expect(open(createMemoryStorage(), '')).rejects.toMatchObject({ code: 'not-found' });
});
