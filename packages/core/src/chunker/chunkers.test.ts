import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCellarError } from '../errors.ts';
import type { Chunker } from './chunker.ts';
import { contentDefinedChunker, GEAR_TABLE_BYTES } from './content-defined.ts';
import { fixedSizeChunker } from './fixed-size.ts';

const SIZES = { minSize: 64, averageSize: 256, maxSize: 1024 };
const GEAR = pseudoRandom(GEAR_TABLE_BYTES, 'gear');
const chunkers: readonly (readonly [string, Chunker])[] = [
  ['content-defined', contentDefinedChunker(SIZES, GEAR)],
  ['fixed-size', fixedSizeChunker(256)],
];

/** Bytes that look random and are the same in every run. */
function pseudoRandom(length: number, seed: string): Uint8Array {
  return createHash('shake256', { outputLength: length }).update(seed).digest();
}

function cuts(chunker: Chunker, bytes: Uint8Array): number[] {
  const ends: number[] = [];
  let start = 0;
  while (start < bytes.length) {
    const cut = chunker.cut(bytes, start, bytes.length);
    start = cut === -1 ? bytes.length : cut;
    ends.push(start);
  }
  return ends;
}

/** Cuts as a caller does that receives `pieces`: with a buffer that is moved and refilled. */
function cutsOfPieces(chunker: Chunker, bytes: Uint8Array, pieces: readonly number[]): number[] {
  const ends: number[] = [];
  let buffered = new Uint8Array(0);
  let origin = 0;
  let read = 0;
  for (let turn = 0; read < bytes.length || turn === 0; turn++) {
    const take = Math.min(pieces[turn % pieces.length] ?? 1, bytes.length - read);
    buffered = Uint8Array.from([...buffered, ...bytes.subarray(read, read + take)]);
    read += take;
    let start = 0;
    for (;;) {
      const cut = start === buffered.length ? -1 : chunker.cut(buffered, start, buffered.length);
      if (cut === -1) break;
      ends.push(origin + cut);
      start = cut;
    }
    buffered = buffered.slice(start);
    origin += start;
  }
  if (buffered.length > 0) ends.push(bytes.length);
  return ends;
}

const someBytes = fc.oneof(
  fc.tuple(fc.nat(6000), fc.string()).map(([length, seed]) => pseudoRandom(length, seed)),
  fc.uint8Array({ maxLength: 3000 }),
  fc.nat(5000).map((length) => new Uint8Array(length)),
);

describe.each(chunkers)('%s', (_name, chunker) => {
  test('cuts at the same places however the bytes arrive', () => {
    fc.assert(
      fc.property(
        someBytes,
        fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 8 }),
        (bytes, pieces) => {
          expect(cutsOfPieces(chunker, bytes, pieces)).toEqual(cuts(chunker, bytes));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('covers every byte once, with chunks no larger than the largest', () => {
    fc.assert(
      fc.property(someBytes, (bytes) => {
        let start = 0;
        for (const end of cuts(chunker, bytes)) {
          expect(end).toBeGreaterThan(start);
          expect(end - start).toBeLessThanOrEqual(chunker.maxSize);
          start = end;
        }
        expect(start).toBe(bytes.length);
      }),
    );
  });
});

describe('content-defined cuts', () => {
  const chunker = contentDefinedChunker(SIZES, GEAR);

  test('leave no chunk at or under the least size but the last', () => {
    const ends = cuts(chunker, pseudoRandom(200_000, 'sizes'));
    const sizes = ends.map((end, i) => end - (ends[i - 1] ?? 0));
    for (const size of sizes.slice(0, -1)) expect(size).toBeGreaterThan(SIZES.minSize);
    const mean = 200_000 / sizes.length;
    expect(mean).toBeGreaterThan(SIZES.averageSize * 0.8);
    expect(mean).toBeLessThan(SIZES.averageSize * 1.5);
  });

  test('change in few chunks when bytes are inserted', () => {
    fc.assert(
      fc.property(fc.nat(49_999), fc.integer({ min: 1, max: 300 }), fc.string(), (at, length, seed) => {
        const before = pseudoRandom(50_000, 'insert');
        const after = Buffer.concat([before.subarray(0, at), pseudoRandom(length, seed), before.subarray(at)]);
        const known = new Set(pieces(before).map((piece) => piece.toString('base64')));
        const changed = pieces(after).filter((piece) => !known.has(piece.toString('base64')));
        expect(changed.length).toBeLessThanOrEqual(12);
      }),
    );
  });

  test('differ between two gear tables', () => {
    const bytes = pseudoRandom(50_000, 'tables');
    const other = contentDefinedChunker(SIZES, pseudoRandom(GEAR_TABLE_BYTES, 'other gear'));
    const shared = new Set(cuts(other, bytes));
    expect(cuts(chunker, bytes).filter((end) => shared.has(end)).length).toBeLessThan(10);
  });

  test('follow the rule as it is specified, byte by byte', () => {
    const bytes = pseudoRandom(30_000, 'rule');
    const gear = new DataView(GEAR.buffer, GEAR.byteOffset);
    const expected: number[] = [];
    let start = 0;
    let hash = 0n;
    for (let i = 0; i < bytes.length; i++) {
      const at = i - start;
      if (at < SIZES.minSize) continue;
      if (at === SIZES.minSize) hash = 0n;
      hash = (hash * 2n + BigInt(gear.getUint32((bytes[i] as number) * 4))) % 2n ** 32n;
      const zeros = 8n + (at < SIZES.averageSize ? 2n : -2n);
      if (hash >> (32n - zeros) === 0n || at + 1 === SIZES.maxSize) {
        start = i + 1;
        expected.push(start);
      }
    }
    if (start < bytes.length) expected.push(bytes.length);
    expect(cuts(chunker, bytes)).toEqual(expected);
  });

  test.each([
    [{ minSize: 0, averageSize: 256, maxSize: 1024 }],
    [{ minSize: 64, averageSize: 300, maxSize: 1024 }],
    [{ minSize: 64, averageSize: 256, maxSize: 256 }],
  ])('refuse impossible sizes %j', (sizes) => {
    expect(() => contentDefinedChunker(sizes, GEAR)).toThrow(/not possible/);
  });

  function pieces(bytes: Uint8Array): Buffer[] {
    const ends = cuts(chunker, bytes);
    return ends.map((end, i) => Buffer.from(bytes.subarray(ends[i - 1] ?? 0, end)));
  }
});

test('a fixed size must be a positive whole number', () => {
  for (const size of [0, -1, 1.5, Number.NaN]) {
    expect(() => fixedSizeChunker(size)).toThrow(
      expect.toSatisfy((error: unknown) => isCellarError(error, 'invalid-input')),
    );
  }
});
