import { describe, expect, test } from 'vitest';
import { CellarError } from '../../errors.ts';
import { type ClientOptions, type Fault, SimulatedStorage } from '../../testing/simulated-storage.ts';
import { parseObjectName, type Storage } from '../storage.ts';
import type { Clock } from './clock.ts';
import { withRetry } from './retry.ts';

const { signal } = new AbortController();
const A = parseObjectName('a');

/** A storage with these faults under a retry whose pauses are noted instead of waited. */
function failing(options: ClientOptions, settings: { random?: () => number; attempts?: number } = {}) {
  const simulated = new SimulatedStorage();
  const pauses: number[] = [];
  const clock: Clock = {
    now: () => 0,
    wait: async (milliseconds) => {
      pauses.push(milliseconds);
    },
  };
  const storage = withRetry(simulated.client('it', options), {
    clock,
    random: settings.random ?? (() => 1),
    attempts: settings.attempts ?? 6,
  });
  return { simulated, storage, pauses };
}

const always = (effect: Fault['effect'], count: number): Fault[] =>
  Array.from({ length: count }, () => ({ at: () => true, effect }));

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe('pauses', () => {
  test('they double up to the longest, and the last attempt throws what it met', async () => {
    const { storage, pauses } = failing({ faults: always('fail-before', 9) }, { attempts: 9 });
    await expect(storage.stat(A, { signal })).rejects.toMatchObject({ code: 'storage-failed', retryable: true });
    expect(pauses).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  });

  test('jitter takes up to half of each away', async () => {
    const { storage, pauses } = failing({ faults: always('fail-before', 3) }, { random: () => 0 });
    await storage.now({ signal });
    expect(pauses).toEqual([250, 500, 1000]);
  });

  test('an abort ends a pause at once', async () => {
    const controller = new AbortController();
    const simulated = new SimulatedStorage();
    const storage = withRetry(simulated.client('it', { faults: always('fail-before', 1) }), {
      firstPauseMs: 3_600_000,
      longestPauseMs: 3_600_000,
      onRetry: () => controller.abort(),
    });
    await expect(storage.now({ signal: controller.signal })).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('each retry is told with what failed', async () => {
    const told: unknown[] = [];
    const simulated = new SimulatedStorage();
    const storage = withRetry(simulated.client('it', { faults: always('fail-before', 1) }), {
      clock: { now: () => 0, wait: async () => {} },
      random: () => 1,
      onRetry: (retry) => told.push(retry),
    });
    await storage.put(A, Buffer.from('x'), { signal });
    expect(told).toMatchObject([{ operation: 'put a', attempt: 1, pauseMs: 500, error: expect.any(CellarError) }]);
  });
});

test('what is not retryable is thrown at once', async () => {
  const { storage, pauses, simulated } = failing({ faults: [{ at: 2, effect: 'crash-before' }] });
  await expect(storage.stat(A, { signal })).rejects.toMatchObject({ code: 'not-found' });
  await expect(storage.put(A, Buffer.from('x'), { signal })).rejects.toMatchObject({ name: 'SimulatedCrash' });
  expect(pauses).toEqual([]);
  expect(simulated.log).toHaveLength(2);
});

describe('put', () => {
  test('bytes are sent again, a half-consumed stream is not', async () => {
    const bytes = failing({ faults: always('fail-before', 2) });
    await bytes.storage.put(A, [Buffer.from('x'), Buffer.from('y')], { signal });
    expect(bytes.simulated.bytes(A).toString()).toBe('xy');

    const stream = failing({ faults: always('fail-before', 1) });
    const body = (async function* () {
      yield Buffer.from('x');
    })();
    await expect(stream.storage.put(A, body, { signal })).rejects.toMatchObject({ retryable: true });
    expect(stream.pauses).toEqual([]);
  });

  test('a put whose answer was lost counts as done when the stored bytes are ours', async () => {
    const { storage, simulated } = failing({ faults: always('fail-after', 1) });
    const written = await storage.put(A, [Buffer.from('our'), Buffer.from('s')], { signal });
    expect(written).toEqual({ name: A, size: 4, modifiedAt: simulated.now() });
  });

  test.each(['else', 'els', 'ours, longer'])(
    'a put whose answer was lost conflicts when the bytes are %s',
    async (others) => {
      const { storage, simulated } = failing({ faults: [{ at: 1, effect: 'fail-before' }] });
      const rival = simulated.client('rival');
      let raced = false;
      simulated.beforeOperation = async ({ client, number }) => {
        if (client !== 'it' || number !== 2 || raced) return;
        raced = true;
        await rival.put(A, Buffer.from(others), { signal });
      };
      await expect(storage.put(A, Buffer.from('ours'), { signal })).rejects.toMatchObject({ code: 'conflict' });
      expect(simulated.bytes(A).toString()).toBe(others);
    },
  );

  test('a name that was taken before is a conflict, even with the same bytes', async () => {
    const { storage, simulated } = failing({});
    await simulated.client('rival').put(A, Buffer.from('ours'), { signal });
    await expect(storage.put(A, Buffer.from('ours'), { signal })).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('get', () => {
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 253));
  const cuts = (...at: number[]): Fault[] =>
    at.map((count) => ({ at: ({ kind }) => kind === 'get', effect: 'cut', bytes: count }));

  async function stored(faults: readonly Fault[]): Promise<ReturnType<typeof failing>> {
    const made = failing({ faults });
    await made.simulated.client('writer').put(A, bytes, { signal });
    return made;
  }

  test.each([undefined, { offset: 0, length: 1000 }, { offset: 100, length: 800 }])(
    'a broken read of %o goes on where it stopped',
    async (range) => {
      const { storage, simulated } = await stored(cuts(0, 300, 0, 250));
      const options = range === undefined ? { signal } : { signal, range };
      const expected = range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length);
      expect((await collect(storage.get(A, options))).equals(expected)).toBe(true);
      expect(simulated.log.filter(({ kind }) => kind === 'get')).toHaveLength(6 - 1);
    },
  );

  test('a read that fails after its last byte delivers nothing twice', async () => {
    const { storage } = await stored([{ at: 1, effect: 'fail-after' }]);
    expect((await collect(storage.get(A, { signal }))).equals(bytes)).toBe(true);
  });

  test('progress earns new attempts, standing still does not', async () => {
    const moving = await stored(cuts(...Array.from({ length: 20 }, () => 10)));
    expect((await collect(moving.storage.get(A, { signal }))).equals(bytes)).toBe(true);
    const standing = await stored(cuts(10, ...Array.from({ length: 20 }, () => 0)));
    await expect(collect(standing.storage.get(A, { signal }))).rejects.toMatchObject({ retryable: true });
    expect(standing.pauses).toHaveLength(5);
  });

  test('an object that was cut while it was read is damage, not a shorter answer', async () => {
    const { storage, simulated } = await stored(cuts(300));
    const reading = (async () => {
      for await (const _ of storage.get(A, { signal, range: { offset: 0, length: 1000 } })) simulated.truncate(A, 500);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'damaged' });
  });
});

test('a listing that breaks between pages starts over and repeats no name', async () => {
  const simulated = new SimulatedStorage({ listPage: 3 });
  const writer = simulated.client('writer');
  for (let i = 0; i < 10; i++) await writer.put(parseObjectName(`n/${i}`), Buffer.from('x'), { signal });
  const faulty: Storage = simulated.client('it', {
    faults: [2, 5, 8].map((at) => ({ at, effect: 'fail-before' as const })),
  });
  const storage = withRetry(faulty, { clock: { now: () => 0, wait: async () => {} } });
  const names: string[] = [];
  for await (const { name } of storage.list('n/', { signal })) names.push(name);
  expect(names.sort()).toEqual(Array.from({ length: 10 }, (_, i) => `n/${i}`));
});
