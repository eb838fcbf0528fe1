/**
 * What every storage passes, adapters and decorated stacks alike: the promises of `storage/storage.ts`, one test each.
 * An adapter's own test file calls `storageConformance` and adds what is particular to it.
 */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ObjectBody, parseObjectName, type Storage, type StoredObject } from '../storage/storage.ts';
import { liveBufferBytes } from './live-bytes.ts';

export interface StorageUnderTest extends AsyncDisposable {
  /** Empty. */
  readonly storage: Storage;
  /** True where the storage itself holds objects in this process's memory, so that flatness cannot be measured. */
  readonly inMemory?: boolean;
}

export interface ConformanceOptions {
  /** How many objects the large listing has. Default 10,000. */
  readonly manyObjects?: number;
}

const MIB = 1024 * 1024;
const BIG = 64 * MIB;
/** How far `now` and the times of objects may disagree, ms: file systems and services round times to up to a second. */
const CLOCK_TOLERANCE = 2000;

/** @param open gives a new, empty storage for each test; disposing it removes everything. */
export function storageConformance(
  title: string,
  open: () => Promise<StorageUnderTest>,
  { manyObjects = 10_000 }: ConformanceOptions = {},
): void {
  describe(`${title} keeps the promises of a storage`, () => {
    const { signal } = new AbortController();
    let subject: StorageUnderTest;
    let storage: Storage;

    beforeEach(async () => {
      subject = await open();
      storage = subject.storage;
    });
    afterEach(async () => {
      await subject[Symbol.asyncDispose]();
    });

    const put = (name: string, body: ObjectBody | string): Promise<StoredObject> =>
      storage.put(parseObjectName(name), typeof body === 'string' ? Buffer.from(body) : body, { signal });
    const get = (name: string, range?: { offset: number; length: number }): Promise<Buffer> =>
      collect(storage.get(parseObjectName(name), range === undefined ? { signal } : { signal, range }));
    const stat = (name: string): Promise<StoredObject> => storage.stat(parseObjectName(name), { signal });
    const list = async (prefix = ''): Promise<StoredObject[]> => {
      const found: StoredObject[] = [];
      for await (const object of storage.list(prefix, { signal })) found.push(object);
      return found;
    };
    const names = async (prefix = ''): Promise<string[]> => (await list(prefix)).map(({ name }) => name).sort();

    test('what was put is read, described and listed as it was', async () => {
      const written = await put('packs/ab/one', 'the bytes');
      expect(written).toMatchObject({ name: 'packs/ab/one', size: 9 });
      expect((await get('packs/ab/one')).toString()).toBe('the bytes');
      expect(await stat('packs/ab/one')).toEqual(written);
      expect(await list()).toEqual([written]);
    });

    test('an empty storage lists nothing', async () => {
      expect(await list()).toEqual([]);
      expect(await list('packs/')).toEqual([]);
    });

    test.each([
      'brauerei/süße Würze 100%',
      'пиво/Ёж.sql.gz',
      '日本/麦酒 🍺',
      'a b/ c /d',
      '-rf/--help',
      'q?u=e#r&y+%20',
      '$HOME/`x`/"q"/\'s\'/*',
      'A/a',
      `long/${'n'.repeat(200)}`,
    ])('the name %s is kept exactly', async (name) => {
      await put(name, 'x');
      expect(await names()).toEqual([name]);
      expect((await get(name)).toString()).toBe('x');
      expect((await stat(name)).name).toBe(name);
      expect(await names(name.slice(0, 3))).toEqual([name]);
      await storage.delete(parseObjectName(name), { signal });
      expect(await names()).toEqual([]);
    });

    test('names that differ only in case or in Unicode form are different objects', async () => {
      const all = ['Pack', 'pack', 'caf\u00e9', 'cafe\u0301'];
      for (const name of all) await put(name, name);
      for (const name of all) expect((await get(name)).toString()).toBe(name);
      expect(await names()).toEqual([...all].sort());
    });

    test('an empty object is an object', async () => {
      expect((await put('empty', '')).size).toBe(0);
      expect((await get('empty')).length).toBe(0);
      expect((await get('empty', { offset: 0, length: 0 })).length).toBe(0);
      expect((await stat('empty')).size).toBe(0);
      expect((await put('empty-stream', streamOf([]))).size).toBe(0);
      expect(await names()).toEqual(['empty', 'empty-stream']);
    });

    test('a body may be bytes, pieces, or a stream that reuses its buffer', async () => {
      await put('pieces', [Buffer.from('one '), Buffer.alloc(0), Buffer.from('two')]);
      expect((await get('pieces')).toString()).toBe('one two');
      const buffer = Buffer.alloc(70_000);
      const hash = createHash('sha256');
      const written = await put(
        'stream',
        (async function* () {
          for (let i = 0; i < 50; i++) {
            const piece = buffer.fill(i).subarray(0, 1 + i * 1400);
            hash.update(piece);
            yield piece;
          }
        })(),
      );
      const back = await get('stream');
      expect(back.length).toBe(written.size);
      expect(createHash('sha256').update(back).digest('hex')).toBe(hash.digest('hex'));
    });

    test('any range is read exactly', async () => {
      const bytes = Buffer.from(Array.from({ length: 3000 }, (_, i) => i % 251));
      await put('object', bytes);
      for (const [offset, length] of [
        [0, 3000],
        [0, 1],
        [2999, 1],
        [3000, 0],
        [1234, 567],
        [0, 0],
      ] as const) {
        expect((await get('object', { offset, length })).equals(bytes.subarray(offset, offset + length))).toBe(true);
      }
    });

    test('a range past the end is damage, and one that is none is invalid', async () => {
      await put('object', '0123456789');
      for (const [offset, length] of [
        [0, 11],
        [10, 1],
        [5, 6],
        [11, 0],
        [1000, 1000],
      ] as const) {
        await expect(get('object', { offset, length })).rejects.toMatchObject({ code: 'damaged', retryable: false });
      }
      for (const [offset, length] of [
        [-1, 1],
        [0, -1],
        [Number.NaN, 1],
        [0, 1.5],
      ] as const) {
        await expect(get('object', { offset, length })).rejects.toMatchObject({ code: 'invalid-input' });
      }
    });

    test('a large object streams through in both directions without being held in memory', async () => {
      const before = liveBufferBytes();
      let peak = 0;
      const note = (at: number): void => {
        if (at % (8 * MIB) === 0) peak = Math.max(peak, liveBufferBytes() - before);
      };
      const sent = createHash('sha256');
      const written = await put(
        'big',
        (async function* () {
          for (let at = 0; at < BIG; at += MIB) {
            const piece = Buffer.alloc(MIB, `${at} `);
            sent.update(piece);
            yield piece;
            note(at);
          }
        })(),
      );
      expect(written.size).toBe(BIG);
      const received = createHash('sha256');
      let size = 0;
      for await (const piece of storage.get(parseObjectName('big'), { signal })) {
        received.update(piece);
        const edge = Math.floor((size + piece.length) / (8 * MIB)) > Math.floor(size / (8 * MIB));
        size += piece.length;
        if (edge) note(0);
      }
      expect(size).toBe(BIG);
      expect(received.digest('hex')).toBe(sent.digest('hex'));
      // Whoever collects the object holds all of it at the end; what V8 frees late is a few pieces.
      if (subject.inMemory !== true) expect(peak).toBeLessThan(BIG / 2);
    });

    test('an abort during a put, even of a body that hangs, leaves nothing and frees the name', async () => {
      const controller = new AbortController();
      const hanging = (async function* () {
        yield Buffer.alloc(300_000, 1);
        controller.abort();
        await new Promise(() => {});
      })();
      const writing = storage.put(parseObjectName('object'), hanging, { signal: controller.signal });
      await expect(writing).rejects.toMatchObject({ code: 'cancelled' });
      expect(await names()).toEqual([]);
      await expect(stat('object')).rejects.toMatchObject({ code: 'not-found' });
      await put('object', 'second try');
      expect((await get('object')).toString()).toBe('second try');
    });

    test('a body that fails is thrown as it is, and leaves nothing', async () => {
      const failure = new Error('the source broke');
      const body = (async function* () {
        yield Buffer.alloc(300_000, 1);
        throw failure;
      })();
      await expect(put('object', body)).rejects.toBe(failure);
      expect(await names()).toEqual([]);
      await expect(get('object')).rejects.toMatchObject({ code: 'not-found' });
    });

    test('an aborted signal stops every operation before it does anything', async () => {
      await put('object', 'x');
      const aborted = { signal: AbortSignal.abort() };
      const name = parseObjectName('object');
      const other = parseObjectName('other');
      const cancelled = { code: 'cancelled' };
      await expect(storage.put(other, Buffer.from('y'), aborted)).rejects.toMatchObject(cancelled);
      await expect(collect(storage.get(name, aborted))).rejects.toMatchObject(cancelled);
      await expect(storage.stat(name, aborted)).rejects.toMatchObject(cancelled);
      await expect(storage.delete(name, aborted)).rejects.toMatchObject(cancelled);
      await expect(storage.now(aborted)).rejects.toMatchObject(cancelled);
      await expect(storage.list('', aborted)[Symbol.asyncIterator]().next()).rejects.toMatchObject(cancelled);
      expect(await names()).toEqual(['object']);
    });

    test('an abort during a get ends it with the cancellation', async () => {
      await put('object', Buffer.alloc(4 * MIB));
      const controller = new AbortController();
      const reading = (async () => {
        for await (const _ of storage.get(parseObjectName('object'), { signal: controller.signal })) controller.abort();
      })();
      await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
    });

    test('a reader may stop early, and the object can still be read and deleted', async () => {
      await put('object', Buffer.alloc(4 * MIB, 7));
      for (let i = 0; i < 20; i++) {
        for await (const piece of storage.get(parseObjectName('object'), { signal })) {
          expect(piece[0]).toBe(7);
          break;
        }
      }
      expect((await get('object')).length).toBe(4 * MIB);
      await storage.delete(parseObjectName('object'), { signal });
      expect(await names()).toEqual([]);
    });

    test('of several writers of one name at once exactly one wins, and its bytes are whole', async () => {
      const bodies = Array.from({ length: 8 }, (_, i) => Buffer.alloc(200_000, i + 1));
      const outcomes = await Promise.allSettled(bodies.map((body) => put('contested', body)));
      const stored = await get('contested');
      const winners = bodies.filter((_, i) => outcomes[i]?.status === 'fulfilled');
      expect(bodies.some((body) => body.equals(stored))).toBe(true);
      if (!storage.capabilities.exclusiveCreate) return;
      expect(winners).toHaveLength(1);
      expect(winners[0]?.equals(stored)).toBe(true);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict', retryable: false });
      }
    });

    test('where creation is exclusive, a second put conflicts and changes nothing', async () => {
      const first = await put('object', 'first');
      if (!storage.capabilities.exclusiveCreate) return;
      await expect(put('object', 'second')).rejects.toMatchObject({ code: 'conflict' });
      expect((await get('object')).toString()).toBe('first');
      expect(await stat('object')).toEqual(first);
    });

    test('a prefix is a start of names, not a folder', async () => {
      for (const name of ['a', 'ab/c', 'ab/d/e', 'abc/f', 'b/ab/g']) await put(name, name);
      expect(await names('')).toEqual(['a', 'ab/c', 'ab/d/e', 'abc/f', 'b/ab/g']);
      expect(await names('a')).toEqual(['a', 'ab/c', 'ab/d/e', 'abc/f']);
      expect(await names('ab')).toEqual(['ab/c', 'ab/d/e', 'abc/f']);
      expect(await names('ab/')).toEqual(['ab/c', 'ab/d/e']);
      expect(await names('ab/d')).toEqual(['ab/d/e']);
      expect(await names('ab/c')).toEqual(['ab/c']);
      for (const none of ['ab/c/', 'x', '/', '/a', '../', 'ab/../a', 'ab//', './a', 'A'])
        expect(await names(none)).toEqual([]);
    });

    test(`a listing of ${manyObjects} objects has each exactly once`, { timeout: 180_000 }, async () => {
      const expected = Array.from({ length: manyObjects }, (_, i) => `many/${(i % 16).toString(16)}/object ${i}`);
      const waiting = [...expected];
      await Promise.all(
        Array.from({ length: 16 }, async () => {
          for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) await put(name, name);
        }),
      );
      await put('other', 'x');
      const found = await list('many/');
      expect(found.map(({ name }) => name).sort()).toEqual(expected.sort());
      expect(found.every(({ name, size }) => size === Buffer.byteLength(name))).toBe(true);
      expect(await list('many/a/')).toHaveLength(Math.floor((manyObjects + 5) / 16));
    });

    test('only what is absent is not found', async () => {
      await put('there/object', 'x');
      for (const name of ['nowhere', 'there', 'there/objec', 'there/object2', 'there/object/below', 'other/object']) {
        await expect(get(name)).rejects.toMatchObject({ code: 'not-found', retryable: false });
        await expect(stat(name)).rejects.toMatchObject({ code: 'not-found', retryable: false });
      }
    });

    test('deleting is final, repeatable, and harms no other object', async () => {
      await put('a/b', 'x');
      await put('a/c', 'y');
      const name = parseObjectName('a/b');
      await storage.delete(name, { signal });
      await storage.delete(name, { signal });
      await storage.delete(parseObjectName('never/was'), { signal });
      await storage.delete(parseObjectName('a'), { signal });
      expect(await names()).toEqual(['a/c']);
      await expect(stat('a/b')).rejects.toMatchObject({ code: 'not-found' });
      await put('a/b', 'again');
      expect((await get('a/b')).toString()).toBe('again');
    });

    test('the clock agrees with the times of objects and does not run backwards', async () => {
      const before = await storage.now({ signal });
      const written = await put('object', 'x');
      const after = await storage.now({ signal });
      expect(after.getTime()).toBeGreaterThanOrEqual(before.getTime());
      expect(written.modifiedAt.getTime()).toBeGreaterThanOrEqual(before.getTime() - CLOCK_TOLERANCE);
      expect(written.modifiedAt.getTime()).toBeLessThanOrEqual(after.getTime() + CLOCK_TOLERANCE);
      expect(await list()).toEqual([written]);
    });

    test('many readers at once each get the whole object', async () => {
      const bytes = Buffer.from(Array.from({ length: 2 * MIB }, (_, i) => (i * 7) % 256));
      await put('object', bytes);
      const all = await Promise.all(Array.from({ length: 16 }, () => get('object')));
      expect(all.every((one) => one.equals(bytes))).toBe(true);
    });

    test('its URL says where it is', () => {
      expect(storage.url).toMatch(/^[a-z0-9]+:/);
    });
  });
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function* streamOf(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* pieces;
}
