import { expect, test } from 'vitest';
import { storageConformance } from '../../testing/storage-conformance.ts';
import { parseObjectName } from '../storage.ts';
import { createMemoryStorage } from './memory-storage.ts';

storageConformance('memory', async () => {
  const storage = createMemoryStorage();
  return { storage, inMemory: true, [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() };
});

test('a memory storage runs on the clock it is given', async () => {
  let now = new Date('2024-11-08T12:00:00Z');
  const storage = createMemoryStorage({ now: () => now });
  const { signal } = new AbortController();
  const { modifiedAt } = await storage.put(parseObjectName('a'), Buffer.from('x'), { signal });
  expect(modifiedAt).toEqual(now);
  now = new Date('2024-11-09T12:00:00Z');
  expect(await storage.now({ signal })).toEqual(now);
});

test('bytes given and taken are copies', async () => {
  const storage = createMemoryStorage();
  const { signal } = new AbortController();
  const name = parseObjectName('a');
  const given = Buffer.from('same');
  await storage.put(name, given, { signal });
  given.fill(0);
  for (let i = 0; i < 2; i++) {
    for await (const piece of storage.get(name, { signal })) {
      expect(Buffer.from(piece).toString()).toBe('same');
      piece.fill(0);
    }
  }
});
