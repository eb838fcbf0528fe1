import { describe, expect, test } from 'vitest';
import { isCellarError } from '../../src/errors.ts';
import { type InitOptions, initRepository, openRepository } from '../../src/repository/repository.ts';
import { createMemoryStorage } from '../../src/storage/memory/memory-storage.ts';
import {
  backUp,
  collectBytes,
  draftOf,
  fixedSurroundings,
  never,
  noise,
  readAll,
  rows,
  storeStreams,
  whole,
} from './streams.ts';

const UNENCRYPTED: InitOptions = { protection: { kind: 'none' } };
const ENCRYPTED: InitOptions = { protection: { kind: 'passphrase', passphrase: 'correct horse', cost: 1024 } };
/** Small chunks and packs, so that small streams have many. */
const SMALL = {
  chunker: { kind: 'content-defined', minSize: 64, averageSize: 256, maxSize: 1024 },
  packTargetBytes: 65536,
} as const;

const refuses = (code: Parameters<typeof isCellarError>[1]) =>
  expect.toSatisfy((error: unknown) => isCellarError(error, code), `a CellarError ${code}`);

describe.each([
  ['an unencrypted repository', UNENCRYPTED],
  ['an encrypted repository', ENCRYPTED],
])('%s', (_name, options) => {
  const streams = {
    schema: [Buffer.from('CREATE TABLE orders (id int);\n')],
    'public.orders': [rows(3000)],
    'public.events': [rows(2000, 'a'), rows(2000, 'b'), rows(10, 'c')],
    'public.images': [noise(200_000, 'images')],
    'public.empty': [Buffer.alloc(0)],
    'large-objects': [],
  };

  test('gives back every entry as it was, from another process too', async () => {
    const storage = createMemoryStorage();
    const repository = await initRepository(storage, options, never);
    const manifest = await backUp(repository, streams);
    expect(await readAll(repository, manifest)).toEqual(whole(streams));

    const reopened = await openRepository(storage, { secret: async () => 'correct horse' }, never);
    const found = await reopened.findBackup('latest', never);
    expect(found).toEqual(manifest);
    expect(await readAll(reopened, found)).toEqual(whole(streams));
    const contents = reopened.contents(found);
    const [entry] = contents.entries.filter(({ name }) => name === 'public.orders');
    if (entry === undefined) throw new Error('no such entry');
    expect(contents.sizeOf(entry)).toBe(streams['public.orders'][0]?.length);
    expect(await collectBytes(contents.open(entry, never))).toEqual(streams['public.orders'][0]);
  });

  test('stores nothing anew when nothing changed, and little when little did', async () => {
    const storage = createMemoryStorage();
    const repository = await initRepository(storage, { ...options, ...SMALL }, never);
    const first = await backUp(repository, streams);
    const second = await backUp(repository, streams);
    expect(second.parent).toBe(first.id);
    expect(second.stats).toMatchObject({ newRawBytes: 0, newStoredBytes: 0, reusedBytes: first.stats.rawBytes });
    const changed = { ...streams, 'public.orders': [Buffer.concat([rows(3000), rows(30, 'new', 3000)])] };
    const third = await backUp(repository, changed);
    expect(third.stats.newRawBytes).toBeLessThan(6000);
    expect(await readAll(repository, third)).toEqual(whole(changed));
    expect(await readAll(repository, first)).toEqual(whole(streams));
    expect((await repository.check({ level: 'data' }, never)).findings).toEqual([]);
  });

  test('shows an observer names and contents only when it is not encrypted', async () => {
    const storage = createMemoryStorage();
    const repository = await initRepository(storage, options, never);
    await backUp(repository, { 'public.orders': [Buffer.from('a telltale row')] }, 'telltale_database');
    for await (const { name } of storage.list('', { signal: never })) {
      expect(name).not.toContain('telltale');
      expect((await collectBytes(storage.get(name, { signal: never }))).toString('latin1')).not.toContain('telltale');
      if (name.startsWith('packs/')) expect((await storage.stat(name, { signal: never })).size % 16384).toBe(0);
    }
  });
});

describe('a long recipe', () => {
  test('is stored in pages, and pages of unchanged stretches are stored once', async () => {
    const repository = await initRepository(
      createMemoryStorage(),
      { ...UNENCRYPTED, ...SMALL, surroundings: fixedSurroundings('long') },
      never,
    );
    const stream = noise(3_000_000, 'long');
    const first = await backUp(repository, { t: [stream] });
    expect(first.entries[0]?.segments[0]).toMatchObject({ level: 1, bytes: 3_000_000 });
    const edited = Buffer.concat([
      stream.subarray(0, 1_500_000),
      Buffer.from('an insertion'),
      stream.subarray(1_500_000),
    ]);
    const second = await backUp(repository, { t: [edited] });
    expect(second.stats.newRawBytes).toBeLessThan(10_000);
    // One changed page of some 1,000 refs, not all ten.
    expect(second.stats.newStoredBytes).toBeLessThan(100_000);
    expect(await readAll(repository, second)).toEqual({ t: edited });
  });

  test('is reused although its segments were cut elsewhere', async () => {
    const repository = await initRepository(
      createMemoryStorage(),
      { ...UNENCRYPTED, ...SMALL, surroundings: fixedSurroundings('long') },
      never,
    );
    const stream = noise(600_000, 'segments');
    const cutAt = (...ends: number[]) => ends.map((end, i) => stream.subarray(ends[i - 1] ?? 0, end));
    await backUp(repository, { t: cutAt(600_000) });
    const second = await backUp(repository, { t: cutAt(150_000, 300_000, 450_000, 600_000) });
    expect(second.stats.newRawBytes).toBeLessThan(60_000);
    const third = await backUp(repository, { t: cutAt(200_000, 400_000, 600_000) });
    expect(third.stats.newRawBytes).toBeLessThan(60_000);
    expect(await readAll(repository, third)).toEqual({ t: stream });
  });
});

test('repeated contents within a backup are stored once', async () => {
  const repository = await initRepository(createMemoryStorage(), { ...UNENCRYPTED, ...SMALL }, never);
  const streams = { a: [noise(100_000, 'same')], b: [noise(100_000, 'same')], c: [Buffer.alloc(500_000)] };
  const manifest = await backUp(repository, streams);
  expect(manifest.stats.newRawBytes).toBeLessThan(150_000);
  expect(await readAll(repository, manifest)).toEqual(whole(streams));
});

test('chunks are stored anew once their pack is mostly unused, and kept while it is used', async () => {
  const repository = await initRepository(createMemoryStorage(), { ...UNENCRYPTED, ...SMALL }, never);
  const kept = noise(20_000, 'kept');
  const first = await backUp(repository, { kept: [kept], gone: [noise(40_000, 'gone')] });
  const second = await backUp(repository, { kept: [kept] });
  expect(second.stats.newRawBytes).toBe(0);
  const third = await backUp(repository, { kept: [kept] });
  expect(third.stats.newRawBytes).toBe(20_000);
  expect(third.packs.map(({ id }) => id)).not.toContain(first.packs[0]?.id);
  const fourth = await backUp(repository, { kept: [kept] });
  expect(fourth.stats.newRawBytes).toBe(0);
  expect(await readAll(repository, fourth)).toEqual({ kept });
});

test('two databases with equal tables have their own parents', async () => {
  const repository = await initRepository(createMemoryStorage(), UNENCRYPTED, never);
  const shop = await backUp(repository, { t: [rows(10)] }, 'shop');
  const other = await backUp(repository, { t: [rows(10, 'x')] }, 'other');
  expect(other.parent).toBeNull();
  expect((await backUp(repository, { t: [rows(10)] }, 'shop')).parent).toBe(shop.id);
  expect((await repository.findBackup('other@latest', never)).id).toBe(other.id);
});

test('an interrupted run leaves no backup, and the next one reuses what it uploaded', async () => {
  const repository = await initRepository(createMemoryStorage(), { ...UNENCRYPTED, ...SMALL }, never);
  const streams = { t: [noise(500_000, 'interrupted')] };
  {
    await using writer = await repository.beginBackup({ database: 'shop' }, never);
    await storeStreams(repository, writer, streams);
  }
  expect(await repository.listBackups(never)).toEqual([]);
  const next = await backUp(repository, streams);
  expect(next.stats.newRawBytes).toBeLessThan(100_000);
  expect(await readAll(repository, next)).toEqual(whole(streams));
  const after = await backUp(repository, streams);
  expect(after.stats.newStoredBytes).toBe(0);
  expect((await repository.check({ level: 'data' }, never)).findings).toEqual([]);
});

test('a commit refuses segments that are open, missing or nobody’s', async () => {
  const repository = await initRepository(createMemoryStorage(), UNENCRYPTED, never);
  await using writer = await repository.beginBackup({ database: 'shop' }, never);
  const open = writer.openSegment('t', 1);
  await expect(writer.commit(draftOf({ t: [] }), never)).rejects.toEqual(refuses('mismatch'));
  await open.finish(never);
  await expect(writer.commit(draftOf({ t: [] }), never)).rejects.toEqual(refuses('mismatch'));
  await writer.openSegment('t', 0).finish(never);
  await expect(writer.commit(draftOf({}), never)).rejects.toEqual(refuses('mismatch'));
  await expect(writer.commit(draftOf({ t: [] }), never)).resolves.toMatchObject({ database: 'shop' });
  expect(() => writer.openSegment('t', 0)).toThrow(refuses('conflict'));
});

describe('naming a backup', () => {
  test('works by id, unique start, latest and NAME@latest, and says what is wrong otherwise', async () => {
    const repository = await initRepository(createMemoryStorage(), UNENCRYPTED, never);
    await expect(repository.findBackup('latest', never)).rejects.toEqual(refuses('not-found'));
    const first = await backUp(repository, { t: [rows(1)] });
    const second = await backUp(repository, { t: [rows(2)] });
    expect((await repository.findBackup(first.id, never)).id).toBe(first.id);
    expect((await repository.findBackup(first.id.slice(0, 20).toLowerCase(), never)).id).toBe(first.id);
    expect((await repository.findBackup('latest', never)).id).toBe(second.id);
    await expect(repository.findBackup(first.id.slice(0, 3), never)).rejects.toMatchObject({
      code: 'conflict',
      details: { candidates: [second.id, first.id] },
    });
    for (const ref of ['nobody@latest', 'ZZZZ', '']) {
      await expect(repository.findBackup(ref, never)).rejects.toEqual(refuses('not-found'));
    }
  });
});

describe('a held backup', () => {
  test('is not deleted until it is released', async () => {
    const repository = await initRepository(createMemoryStorage(), UNENCRYPTED, never);
    const { id } = await backUp(repository, { t: [rows(1)] });
    await repository.hold(id, 'before the migration', never);
    await expect(repository.hold(id, 'again', never)).rejects.toEqual(refuses('conflict'));
    expect(await repository.listHolds(never)).toMatchObject([{ backup: id, reason: 'before the migration' }]);
    expect(await repository.listBackups(never)).toMatchObject([{ id, held: true, state: 'readable' }]);
    await expect(repository.deleteBackup(id, never)).rejects.toEqual(refuses('conflict'));
    await repository.release(id, never);
    await expect(repository.release(id, never)).rejects.toEqual(refuses('not-found'));
    expect(await repository.deleteBackup(id, never)).toBe(id);
    expect(await repository.listBackups(never)).toEqual([]);
  });
});

test('a backup that is deleted while it is being held is not told to be held', async () => {
  const storage = createMemoryStorage();
  const repository = await initRepository(storage, UNENCRYPTED, never);
  const { id } = await backUp(repository, { orders: [rows(10)] });
  const put = storage.put;
  storage.put = async (name, body, options) => {
    // A deletion that had looked for holds before.
    if (name.startsWith('holds/')) {
      for await (const listed of storage.list('backups/', options)) await storage.delete(listed.name, options);
    }
    return await put(name, body, options);
  };
  await expect(repository.hold(id, 'audit', never)).rejects.toEqual(refuses('not-found'));
  expect(await repository.listHolds(never)).toEqual([]);
});

test('a backup that is deleted, or committed, while the repository is verified is no damage', async () => {
  const storage = createMemoryStorage();
  const repository = await initRepository(storage, UNENCRYPTED, never);
  await backUp(repository, { orders: [rows(10)] });
  await backUp(repository, { orders: [rows(20, 'other')] }, 'bar');
  const list = storage.list;
  let gone = false;
  storage.list = async function* (prefix, options) {
    for await (const object of list(prefix, options)) {
      // Its packs were not there yet when this place of the listing was written.
      if (prefix !== '' || !object.name.startsWith('packs/')) yield object;
    }
    if (gone) return;
    gone = true;
    for await (const { name } of list('backups/', options)) {
      await storage.delete(name, options);
      return;
    }
  };
  const report = await repository.check({ level: 'structure' }, never);
  expect(report.findings).toEqual([]);
  expect(report.checked.backups).toBe(1);
});
