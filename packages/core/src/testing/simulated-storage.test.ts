import { describe, expect, test } from 'vitest';
import type { ObjectBody, Storage } from '../storage/storage.ts';
import { parseObjectName } from '../storage/storage.ts';
import { everyInterleaving, runInterleaved } from './interleave.ts';
import { SimulatedCrash, SimulatedStorage } from './simulated-storage.ts';

const { signal } = new AbortController();
const A = parseObjectName('a');
const B = parseObjectName('b');

async function namesOf(storage: Storage, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of storage.list(prefix, { signal })) names.push(name);
  return names;
}

async function read(storage: Storage, name = A): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of storage.get(name, { signal })) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const bytes = (text: string): ObjectBody => Buffer.from(text);

describe('crashes', () => {
  test('a crash before a put leaves nothing, one after it leaves the object, and both end the client', async () => {
    for (const effect of ['crash-before', 'crash-after'] as const) {
      const simulated = new SimulatedStorage();
      const client = simulated.client('writer', { faults: [{ at: 2, effect }] });
      await client.put(A, bytes('1'), { signal });
      await expect(client.put(B, bytes('2'), { signal })).rejects.toThrow(SimulatedCrash);
      expect(simulated.names()).toEqual(effect === 'crash-before' ? ['a'] : ['a', 'b']);
      await expect(client.stat(A, { signal })).rejects.toThrow(SimulatedCrash);
      expect(simulated.hasCrashed('writer')).toBe(true);
      expect(await read(simulated.client('writer'))).toBe('1');
    }
  });

  test('a failure after a put is retryable, and the object is there', async () => {
    const simulated = new SimulatedStorage();
    const client = simulated.client('writer', { faults: [{ at: ({ kind }) => kind === 'put', effect: 'fail-after' }] });
    await expect(client.put(A, bytes('1'), { signal })).rejects.toMatchObject({ retryable: true });
    expect(await read(client)).toBe('1');
  });
});

describe('staleness', () => {
  test('a stale listing misses new objects and shows deleted ones until the window has passed', async () => {
    const simulated = new SimulatedStorage({ staleness: { windowMs: 1000, pick: 'worst', what: 'listings' } });
    const client = simulated.client('writer');
    await client.put(A, bytes('1'), { signal });
    expect(await namesOf(client)).toEqual([]);
    expect(await read(client)).toBe('1');
    simulated.advance(1000);
    expect(await namesOf(client)).toEqual(['a']);
    await client.delete(A, { signal });
    expect(await namesOf(client)).toEqual(['a']);
    await expect(client.stat(A, { signal })).rejects.toMatchObject({ code: 'not-found' });
    simulated.advance(1000);
    expect(await namesOf(client)).toEqual([]);
  });

  test('where everything is stale, reads are as well, but an exclusive create sees the present', async () => {
    const simulated = new SimulatedStorage({ staleness: { windowMs: 1000, pick: 'worst', what: 'everything' } });
    const client = simulated.client('writer');
    await client.put(A, bytes('1'), { signal });
    await expect(client.stat(A, { signal })).rejects.toMatchObject({ code: 'not-found' });
    await expect(client.put(A, bytes('2'), { signal })).rejects.toMatchObject({ code: 'conflict' });
    simulated.advance(1000);
    expect(await read(client)).toBe('1');
  });

  test('random staleness shows both states within the window, and the same ones for the same seed', async () => {
    const views = async (seed: number): Promise<string> => {
      const simulated = new SimulatedStorage({ seed, staleness: { windowMs: 1000, pick: 'random', what: 'listings' } });
      const client = simulated.client('writer');
      await client.put(A, bytes('1'), { signal });
      let seen = '';
      for (let i = 0; i < 40; i++) seen += (await namesOf(client)).length;
      return seen;
    };
    expect(await views(7)).toBe(await views(7));
    expect(await views(7)).toMatch(/01|10/);
    expect(await views(8)).not.toBe(await views(7));
  });

  test('objects created between two pages of a listing may be missed or seen', async () => {
    const simulated = new SimulatedStorage({ listPage: 1 });
    const other = simulated.client('other');
    await other.put(B, bytes('b'), { signal });
    simulated.beforeOperation = async ({ client, kind, number }) => {
      if (client === 'lister' && kind === 'list' && number === 2) {
        await other.put(A, bytes('a'), { signal });
        await other.put(parseObjectName('c'), bytes('c'), { signal });
      }
    };
    expect(await namesOf(simulated.client('lister'))).toEqual(['b', 'c']);
    expect(simulated.names()).toEqual(['a', 'b', 'c']);
  });
});

describe('damage', () => {
  test('bits flip, objects are cut, swapped, replayed, removed and brought back', async () => {
    const simulated = new SimulatedStorage();
    const client = simulated.client('writer');
    await client.put(A, bytes('aaaa'), { signal });
    await client.put(B, bytes('bbbb'), { signal });
    simulated.flipBit(A, 9);
    expect(await read(client)).toBe('acaa');
    simulated.swap(A, B);
    expect([await read(client), await read(client, B)]).toEqual(['bbbb', 'acaa']);
    simulated.truncate(A, 2);
    expect((await client.stat(A, { signal })).size).toBe(2);
    simulated.replay(A, B);
    expect(await read(client)).toBe('acaa');
    simulated.remove(A);
    await expect(read(client)).rejects.toMatchObject({ code: 'not-found' });
    await client.delete(B, { signal });
    simulated.resurrect(B);
    expect(await read(client, B)).toBe('acaa');
  });

  test('a full storage refuses the put and keeps what it has', async () => {
    const simulated = new SimulatedStorage({ capacityBytes: 5 });
    const client = simulated.client('writer');
    await client.put(A, bytes('aaaa'), { signal });
    await expect(client.put(B, bytes('bb'), { signal })).rejects.toMatchObject({ code: 'storage-full' });
    expect(await namesOf(client)).toEqual(['a']);
    await client.put(B, bytes('b'), { signal });
  });
});

test('each client may have a clock of its own, the storage has one', async () => {
  const simulated = new SimulatedStorage();
  const client = simulated.client('late', { skewMs: -5000 });
  simulated.advance(60_000);
  expect((await client.now({ signal })).getTime() - simulated.clockOf('late')().getTime()).toBe(5000);
  expect((await client.put(A, bytes('1'), { signal })).modifiedAt).toEqual(simulated.now());
});

describe('interleaving', () => {
  test('every order of two clients with two operations each is run once', async () => {
    const orders = new Set<string>();
    const runs = await everyInterleaving(async () => {
      const storage = new SimulatedStorage();
      const task = (name: string) => async (): Promise<void> => {
        const client = storage.client(name);
        await client.put(parseObjectName(`${name}/1`), bytes('1'), { signal });
        // Work of its own between two operations takes real time and changes nothing about the order.
        await new Promise((resolve) => setTimeout(resolve, 1));
        await client.put(parseObjectName(`${name}/2`), bytes('2'), { signal });
      };
      return {
        storage,
        tasks: { x: task('x'), y: task('y') },
        check: ({ order, outcomes }) => {
          orders.add(order.join(''));
          expect(outcomes).toMatchObject({ x: { status: 'fulfilled' }, y: { status: 'fulfilled' } });
          expect(storage.names()).toHaveLength(4);
        },
      };
    });
    expect(runs).toBe(6);
    expect([...orders].sort()).toEqual(['xxyy', 'xyxy', 'xyyx', 'yxxy', 'yxyx', 'yyxx']);
  });

  test('an interleaving finds the lost update that no single run shows', async () => {
    const ends = new Set<string>();
    await everyInterleaving(async () => {
      const storage = new SimulatedStorage({ exclusiveCreate: false });
      await storage.client('setup').put(A, bytes('0'), { signal });
      const increment = (name: string) => async (): Promise<void> => {
        const client = storage.client(name);
        const before = Number(await read(client));
        await client.put(A, bytes(String(before + 1)), { signal });
      };
      return {
        storage,
        tasks: { x: increment('x'), y: increment('y') },
        check: () => void ends.add(storage.bytes(A).toString()),
      };
    });
    expect([...ends].sort()).toEqual(['1', '2']);
  });

  test('a task that fails or crashes ends, and the others go on', async () => {
    const storage = new SimulatedStorage();
    const dying = storage.client('dying', { faults: [{ at: 1, effect: 'crash-after' }] });
    const living = storage.client('living');
    const { outcomes } = await runInterleaved(
      storage,
      { dying: () => dying.put(A, bytes('1'), { signal }), living: () => living.put(B, bytes('2'), { signal }) },
      () => 0,
    );
    expect(outcomes).toMatchObject({ dying: { status: 'rejected' }, living: { status: 'fulfilled' } });
    expect(storage.names()).toEqual(['a', 'b']);
  });
});
