import { expect, test } from 'vitest';
import { createMemoryStorage } from '../memory/memory-storage.ts';
import { parseObjectName } from '../storage.ts';
import { withCounts } from './observe.ts';

const { signal } = new AbortController();
const A = parseObjectName('a');

test('operations, failures and bytes in both directions are counted', async () => {
  let up = 0;
  let down = 0;
  const storage = withCounts(createMemoryStorage(), (sent, received) => {
    up += sent;
    down += received;
  });
  await storage.put(A, Buffer.alloc(1000), { signal });
  await storage.put(
    parseObjectName('b'),
    (async function* () {
      yield Buffer.alloc(200);
      yield Buffer.alloc(34);
    })(),
    { signal },
  );
  await expect(storage.put(A, Buffer.alloc(50), { signal })).rejects.toMatchObject({ code: 'conflict' });
  for await (const _ of storage.get(A, { signal, range: { offset: 900, length: 100 } }));
  for await (const _ of storage.list('', { signal }));
  await expect(storage.stat(parseObjectName('none'), { signal })).rejects.toMatchObject({ code: 'not-found' });
  await storage.delete(A, { signal });
  await storage.now({ signal });
  expect(storage.counts()).toEqual({
    operations: { put: 3, get: 1, list: 1, stat: 1, delete: 1, now: 1 },
    failures: 2,
    bytesUp: 1234,
    bytesDown: 100,
  });
  expect([up, down]).toEqual([1234, 100]);
});

test('a snapshot of the counts does not change any more', async () => {
  const storage = withCounts(createMemoryStorage());
  const before = storage.counts();
  await storage.put(A, Buffer.alloc(1), { signal });
  expect(before).toMatchObject({ operations: { put: 0 }, bytesUp: 0 });
});
