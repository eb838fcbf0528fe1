import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SimulatedStorage } from '../../testing/simulated-storage.ts';
import { type StorageUnderTest, storageConformance } from '../../testing/storage-conformance.ts';
import { piecesOf } from '../body.ts';
import { openLocalStorage } from '../local/local-storage.ts';
import type { Storage } from '../storage.ts';
import { withLimits } from './limit.ts';
import { withCounts } from './observe.ts';
import { withRetry } from './retry.ts';

const few = { manyObjects: 300 };
const GIGABYTE = 1e9;

function onLocal(decorate: (storage: Storage) => Storage): () => Promise<StorageUnderTest> {
  return async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cellar-stack-'));
    return {
      storage: decorate(await openLocalStorage(folder)),
      [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
    };
  };
}

storageConformance(
  'retry over a local folder',
  onLocal((storage) => withRetry(storage)),
  few,
);
storageConformance(
  'limits over a local folder',
  onLocal((storage) =>
    withLimits(storage, { concurrency: 2, uploadBytesPerSecond: GIGABYTE, downloadBytesPerSecond: GIGABYTE }),
  ),
  few,
);
storageConformance(
  'counts over a local folder',
  onLocal((storage) => withCounts(storage)),
  few,
);
storageConformance(
  'counts over retry over limits over a local folder',
  onLocal((storage) => withCounts(withRetry(withLimits(storage, { concurrency: 4, uploadBytesPerSecond: GIGABYTE })))),
  few,
);

async function simulated(storage: Storage): Promise<StorageUnderTest> {
  return { storage, inMemory: true, [Symbol.asyncDispose]: async () => {} };
}

/** Streams cannot be sent again; here they are collected first. */
function sendingBytes(storage: Storage): Storage {
  return {
    ...storage,
    async put(name, body, options) {
      const pieces: Buffer[] = [];
      for await (const piece of piecesOf(body, options.signal)) pieces.push(Buffer.from(piece));
      return await storage.put(name, pieces, options);
    },
  };
}

storageConformance('a simulated storage without faults', () => simulated(new SimulatedStorage().client('only')), few);
storageConformance(
  'a simulated storage that lists by pages and replaces',
  () => simulated(new SimulatedStorage({ listPage: 7, exclusiveCreate: false }).client('only')),
  few,
);
storageConformance(
  'retry over a simulated storage where every third operation fails, before or after its effect',
  async () => {
    let begun = 0;
    const clock = { now: () => 0, wait: async () => {} };
    const faults = Array.from({ length: 4000 }, (_, i) => ({
      at: ({ number }: { readonly number: number }) => number >= 3 * i + 3,
      effect: begun++ % 2 === 0 ? ('fail-before' as const) : ('fail-after' as const),
    }));
    return simulated(sendingBytes(withRetry(new SimulatedStorage().client('only', { faults }), { clock })));
  },
  { manyObjects: 100 },
);
