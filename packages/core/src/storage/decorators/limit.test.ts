import { describe, expect, test } from 'vitest';
import { SimulatedStorage } from '../../testing/simulated-storage.ts';
import { createMemoryStorage } from '../memory/memory-storage.ts';
import { parseObjectName } from '../storage.ts';
import type { Clock } from './clock.ts';
import { withLimits } from './limit.ts';

const { signal } = new AbortController();
const A = parseObjectName('a');

/** Time that passes only by waiting. */
function turnedClock(): Clock {
  let now = 0;
  return {
    now: () => now,
    wait: async (milliseconds) => {
      now += milliseconds;
    },
  };
}

describe('operations at once', () => {
  test('never more than allowed, all of them in the end, in order', async () => {
    let running = 0;
    let most = 0;
    const simulated = new SimulatedStorage({
      beforeOperation: async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
      },
    });
    const storage = withLimits(simulated.client('it'), { concurrency: 3 });
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => storage.put(parseObjectName(`${i}`), Buffer.from('x'), { signal })),
    );
    expect(most).toBe(3);
    expect(simulated.log.map(({ name }) => name)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
  });

  test('a get keeps its place until its stream has ended or is left, a failed operation gives it back', async () => {
    const storage = withLimits(createMemoryStorage(), { concurrency: 1 });
    await storage.put(A, Buffer.alloc(1024 * 1024), { signal });
    const reading = storage.get(A, { signal })[Symbol.asyncIterator]();
    await reading.next();
    let answered = false;
    const asking = storage.stat(A, { signal }).then(() => {
      answered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(answered).toBe(false);
    await reading.return?.();
    await asking;
    await expect(storage.stat(parseObjectName('none'), { signal })).rejects.toMatchObject({ code: 'not-found' });
    await storage.stat(A, { signal });
  });

  test('who is cancelled while waiting leaves the queue, and the next one moves up', async () => {
    const storage = withLimits(createMemoryStorage(), { concurrency: 1 });
    await storage.put(A, Buffer.alloc(1024 * 1024), { signal });
    const reading = storage.get(A, { signal })[Symbol.asyncIterator]();
    await reading.next();
    const controller = new AbortController();
    const cancelled = storage.stat(A, { signal: controller.signal });
    const patient = storage.stat(A, { signal });
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
    await reading.return?.();
    expect((await patient).name).toBe('a');
  });

  test.each([0, -1, 1.5, Number.NaN])('%s operations at once is invalid', (concurrency) => {
    expect(() => withLimits(createMemoryStorage(), { concurrency })).toThrow(
      expect.objectContaining({ code: 'invalid-input' }),
    );
  });
});

describe('bytes per second', () => {
  test('uploads take the time their bytes need, together', async () => {
    const clock = turnedClock();
    const storage = withLimits(createMemoryStorage(), { uploadBytesPerSecond: 1000, clock });
    await Promise.all([
      storage.put(A, Buffer.alloc(2000), { signal }),
      storage.put(parseObjectName('b'), [Buffer.alloc(500), Buffer.alloc(500)], { signal }),
    ]);
    expect(clock.now()).toBeGreaterThanOrEqual(3000);
    const before = clock.now();
    for await (const _ of storage.get(A, { signal }));
    expect(clock.now()).toBe(before);
  });

  test('downloads too, in parts that flow', async () => {
    const clock = turnedClock();
    const storage = withLimits(createMemoryStorage(), { downloadBytesPerSecond: 100_000, clock });
    await storage.put(A, Buffer.alloc(300_000), { signal });
    const arrivals: number[] = [];
    for await (const piece of storage.get(A, { signal })) {
      expect(piece.length).toBeLessThanOrEqual(64 * 1024);
      arrivals.push(clock.now());
    }
    expect(arrivals.at(-1)).toBeCloseTo(3000);
    expect(arrivals.length).toBeGreaterThanOrEqual(5);
  });

  test('idle time is not saved up for a burst', async () => {
    const clock = turnedClock();
    const storage = withLimits(createMemoryStorage(), { uploadBytesPerSecond: 1000, clock });
    await clock.wait(60_000, signal);
    await storage.put(A, Buffer.alloc(1000), { signal });
    expect(clock.now()).toBe(61_000);
  });

  test('on the real clock a limit of 1 MB/s holds', async () => {
    const storage = withLimits(createMemoryStorage(), { uploadBytesPerSecond: 1e6 });
    const start = performance.now();
    await storage.put(A, Buffer.alloc(300_000), { signal });
    expect(performance.now() - start).toBeGreaterThanOrEqual(295);
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('%s bytes per second is invalid', (rate) => {
    expect(() => withLimits(createMemoryStorage(), { uploadBytesPerSecond: rate })).toThrow(
      expect.objectContaining({ code: 'invalid-input' }),
    );
  });
});
