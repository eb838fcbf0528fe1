import { describe, expect, test } from 'vitest';
import { backUp, draftOf, fixedSurroundings, never, rows, storeStreams } from '../test/repository/streams.ts';
import { type CleanupRequest, cleanup, folderPlace, repositoryPlace } from './cleanup.ts';
import type { DumpFilters } from './engine/engine.ts';
import { PlainFolder } from './plain/plain-folder.ts';
import type { BackupManifest } from './repository/backup-manifest.ts';
import { initRepository, type Repository } from './repository/repository.ts';
import { createMemoryStorage } from './storage/memory/memory-storage.ts';
import { parseObjectName, type Storage } from './storage/storage.ts';

const STREAMS = { 'public.orders': [rows(100)] };

const request: CleanupRequest = {
  policy: { keepLast: 1 },
  now: new Date('2024-11-09T00:00:00Z'),
  timeZone: 'UTC',
  dryRun: false,
  onProgress: () => {},
  signal: never,
};

async function repositoryOn(storage: Storage): Promise<Repository> {
  return await initRepository(
    storage,
    { protection: { kind: 'none' }, surroundings: fixedSurroundings('cleanup') },
    never,
  );
}

async function backUpPart(repository: Repository, filters: Partial<DumpFilters>): Promise<BackupManifest> {
  await using writer = await repository.beginBackup({ database: 'shop' }, never);
  await storeStreams(repository, writer, STREAMS);
  const draft = draftOf(STREAMS);
  const options = { ...draft.options, filters: { ...draft.options.filters, ...filters } };
  return await writer.commit({ ...draft, options }, never);
}

async function replace(storage: Storage, name: string, bytes: Uint8Array): Promise<void> {
  await storage.delete(parseObjectName(name), { signal: never });
  await storage.put(parseObjectName(name), bytes, { signal: never });
}

async function names(storage: Storage, prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of storage.list(prefix, { signal: never })) found.push(name);
  return found.sort();
}

describe('in a repository', () => {
  test('backups of definitions or of some tables do not push out the backups of the whole', async () => {
    await using repository = await repositoryOn(createMemoryStorage());
    const whole = await backUp(repository, STREAMS);
    const definitions = await backUpPart(repository, { schemaOnly: true });
    const some = await backUpPart(repository, { includeTables: ['orders'] });
    const newer = await backUpPart(repository, { includeTables: ['orders'] });
    const { deleted } = await cleanup(repositoryPlace(repository), request);
    expect(deleted.map(({ id }) => id)).toEqual([some.id]);
    const left = (await repository.listBackups(never)).map(({ id }) => id);
    expect(left.sort()).toEqual([whole.id, definitions.id, newer.id].sort());
  });

  test('the newest backup stays out of the count when a pack of it is gone, and is told', async () => {
    const storage = createMemoryStorage();
    await using repository = await repositoryOn(storage);
    const old = await backUp(repository, STREAMS);
    const newest = await backUp(repository, { 'public.orders': [rows(500, 'other')] });
    const pack = newest.packs.find(({ id }) => old.packs.every((other) => other.id !== id));
    await storage.delete(parseObjectName(pack?.object ?? ''), { signal: never });
    const { deleted, damaged } = await cleanup(repositoryPlace(repository), request);
    expect(deleted).toEqual([]);
    expect(damaged.map(({ id }) => id)).toEqual([newest.id]);
  });

  test('what was deleted is told also when a manifest that cannot be read keeps the space from coming back', async () => {
    const storage = createMemoryStorage();
    await using repository = await repositoryOn(storage);
    const old = await backUp(repository, STREAMS);
    await backUp(repository, STREAMS);
    await backUp(repository, STREAMS, 'another');
    const [broken] = (await repository.listBackups(never)).filter(
      (listing) => listing.state === 'readable' && listing.database === 'another',
    );
    await replace(storage, broken?.object ?? '', Buffer.from('no manifest'));
    const report = await cleanup(repositoryPlace(repository), request);
    expect(report.deleted.map(({ id }) => id)).toEqual([old.id]);
    expect(report.garbage).toBeUndefined();
    expect(report.notCollected?.message).toContain(broken?.id);
  });

  test('a hold that is released while holds are listed is no error', async () => {
    const storage = createMemoryStorage();
    await using repository = await repositoryOn(storage);
    const { id } = await backUp(repository, STREAMS);
    await repository.hold(id, 'audit', never);
    const [hold = ''] = await names(storage, 'holds/');
    const list = storage.list.bind(storage);
    storage.list = async function* (prefix, options) {
      for await (const object of list(prefix, options)) {
        if (object.name === hold) await storage.delete(object.name, options);
        yield object;
      }
    };
    expect(await repository.listHolds(never)).toEqual([]);
  });
});

describe('in a folder of plain files', () => {
  test('sidecars whose file is gone are removed and told; on a dry run only told', async () => {
    const storage = createMemoryStorage();
    const orphan = 'shop_backup_20240101_020000.sql.json';
    await storage.put(parseObjectName(orphan), Buffer.from('{}'), { signal: never });
    await storage.put(parseObjectName('notes.json'), Buffer.from('{}'), { signal: never });
    const place = folderPlace(new PlainFolder(storage));
    expect((await cleanup(place, { ...request, dryRun: true })).orphans).toEqual([orphan]);
    expect(await names(storage)).toEqual(['notes.json', orphan]);
    expect((await cleanup(place, request)).orphans).toEqual([orphan]);
    expect(await names(storage)).toEqual(['notes.json']);
  });
});
