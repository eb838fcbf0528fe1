/** Repositories that earlier versions wrote: this one, and every later one, reads them. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openRepository } from '../../src/repository/repository.ts';
import { openLocalStorage } from '../../src/storage/local/local-storage.ts';
import { readRepository } from './independent-reader.ts';
import { backUp, never, readAll, rows } from './streams.ts';

const FIXTURES = fileURLToPath(new URL('../../../../fixtures/', import.meta.url));
const PASSPHRASE = 'correct horse battery staple';

interface Expected {
  readonly id: string;
  readonly recoveryKey: string;
  readonly backups: readonly {
    readonly id: string;
    readonly database: string;
    readonly entries: readonly { readonly entry: string; readonly bytes: number; readonly sha256: string }[];
  }[];
}

const golden = readdirSync(FIXTURES).filter((name) => /^repository-v\d+-[a-z]+$/.test(name));
const digests = (entries: Readonly<Record<string, Buffer>>) =>
  Object.entries(entries).map(([entry, bytes]) => ({
    entry,
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }));

test('there is an encrypted and an unencrypted one', () => {
  expect(golden).toEqual(expect.arrayContaining(['repository-v1-encrypted', 'repository-v1-unencrypted']));
});

describe.each(golden)('%s', (name) => {
  const folder = join(FIXTURES, name);
  const expected = JSON.parse(readFileSync(`${folder}.json`, 'utf8')) as Expected;

  test.each(['passphrase', 'recovery key'])('is read in full, with the %s', async (which) => {
    const storage = await openLocalStorage(folder);
    const secret = async () => (which === 'passphrase' ? PASSPHRASE : expected.recoveryKey);
    const repository = await openRepository(storage, { secret, expectedId: expected.id }, never);
    for (const backup of expected.backups) {
      const manifest = await repository.findBackup(backup.id, never);
      expect(manifest.database).toBe(backup.database);
      expect(digests(await readAll(repository, manifest))).toEqual(backup.entries);
    }
    const report = await repository.check({ level: 'data' }, never);
    expect(report).toMatchObject({ findings: [], unknown: [], checked: { backups: expected.backups.length } });
    expect(await repository.listHolds(never)).toMatchObject([{ reason: 'kept for the test' }]);
  });

  test('is read by a reader that was written from the specification alone', () => {
    const found = readRepository(folder, PASSPHRASE).map(({ id, database, entries }) => ({
      id,
      database,
      entries: digests(entries),
    }));
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect(found.sort(byId)).toEqual([...expected.backups].sort(byId));
  });

  test('is written to: the next backup reuses what is there', async () => {
    const copy = mkdtempSync(join(tmpdir(), 'cellar-golden-'));
    try {
      cpSync(folder, copy, { recursive: true });
      const repository = await openRepository(await openLocalStorage(copy), { secret: async () => PASSPHRASE }, never);
      const next = await backUp(repository, { 'public.orders': [Buffer.concat([rows(1500), rows(100, 'new', 1500)])] });
      expect(next.parent).toBe(expected.backups[1]?.id);
      expect(next.stats.newRawBytes).toBe(0);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
});
