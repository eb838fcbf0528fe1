import { expect, test } from 'vitest';
import { initRepository } from '../../src/repository/repository.ts';
import { SimulatedStorage } from '../../src/testing/simulated-storage.ts';
import { backUp, collectBytes, never, noise, readAll, rows, type Streams, whole } from './streams.ts';

test('hundreds of small entries are read with few requests, and a long one with one request per stretch', async () => {
  const storage = new SimulatedStorage();
  const repository = await initRepository(storage.client('c'), { protection: { kind: 'none' } }, never);
  const small: Streams = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`t${i}`, [rows(3, `t${i}`)]]));
  const streams = { ...small, long: [noise(12_000_000, 'long')] };
  const manifest = await backUp(repository, streams);
  const gets = () => storage.log.filter(({ kind }) => kind === 'get').length;

  const before = gets();
  for (const name of Object.keys(small)) await collectBytes(repository.readEntry(manifest, name, never));
  expect(gets() - before).toBeLessThan(10);
  const between = gets();
  await collectBytes(repository.readEntry(manifest, 'long', never));
  expect(gets() - between).toBeLessThan(20);
  expect(await readAll(repository, manifest)).toEqual(whole(streams));
});

test('several entries are read at once, and one that is given up does not disturb the others', async () => {
  const storage = new SimulatedStorage();
  const repository = await initRepository(storage.client('c'), { protection: { kind: 'none' } }, never);
  const streams = { a: [noise(3_000_000, 'a')], b: [rows(30_000)], c: [noise(3_000_000, 'a')] };
  const manifest = await backUp(repository, streams);
  const abandoned = new AbortController();
  const given = (async () => {
    for await (const _ of repository.readEntry(manifest, 'a', abandoned.signal)) abandoned.abort();
  })();
  const read = Promise.all(['a', 'b', 'c'].map((name) => collectBytes(repository.readEntry(manifest, name, never))));
  await expect(given).rejects.toThrow();
  expect(await read).toEqual([...Object.values(whole(streams))]);
});

test('a read that breaks off is an error, never a shorter stream', async () => {
  const storage = new SimulatedStorage();
  const repository = await initRepository(storage.client('c'), { protection: { kind: 'none' } }, never);
  const manifest = await backUp(repository, { t: [noise(5_000_000, 't')] });
  storage.client('c', { faults: [{ at: 1, effect: 'cut', bytes: 100 }] });
  for (const { object } of manifest.packs) storage.truncate(object, 1_000_000);
  await expect(collectBytes(repository.readEntry(manifest, 't', never))).rejects.toMatchObject({ code: 'damaged' });
});
