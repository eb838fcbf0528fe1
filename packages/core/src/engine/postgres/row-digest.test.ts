import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCellarError } from '../../errors.ts';
import { addRowDigests, RowDigest } from './row-digest.ts';

const rows = fc.array(
  fc.string({ maxLength: 40 }).map((text) => text.replaceAll('\n', '')),
  { maxLength: 30 },
);

function bytesOf(lines: readonly string[]): Buffer {
  return Buffer.from(lines.map((line) => `${line}\n`).join(''));
}

function digestOf(...pieces: readonly Uint8Array[]): string {
  const digest = new RowDigest();
  for (const piece of pieces) digest.update(piece);
  return digest.end();
}

describe('RowDigest', () => {
  it('does not depend on the order of rows', () => {
    fc.assert(
      fc.property(
        rows.chain((lines) => fc.tuple(fc.constant(lines), fc.shuffledSubarray(lines, { minLength: lines.length }))),
        ([lines, shuffled]) => {
          expect(digestOf(bytesOf(shuffled))).toBe(digestOf(bytesOf(lines)));
        },
      ),
    );
  });

  it('does not depend on where the stream is cut', () => {
    fc.assert(
      fc.property(rows, fc.array(fc.nat({ max: 400 })), (lines, cuts) => {
        const bytes = bytesOf(lines);
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
        const pieces = places.slice(1).map((end, index) => bytes.subarray(places[index], end));
        expect(digestOf(...pieces)).toBe(digestOf(bytes));
      }),
    );
  });

  it('changes with any single byte', () => {
    fc.assert(
      fc.property(
        rows.filter((lines) => lines.length > 0),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (lines, place, change) => {
          const bytes = bytesOf(lines);
          const changed = Buffer.from(bytes);
          const index = place % bytes.length;
          changed[index] = (changed[index] ?? 0) ^ change;
          let after: string;
          try {
            after = digestOf(changed);
          } catch (error) {
            expect(isCellarError(error, 'damaged')).toBe(true);
            return;
          }
          expect(after).not.toBe(digestOf(bytes));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('counts duplicates: a row twice is neither the row once nor nothing', () => {
    const once = digestOf(bytesOf(['a']));
    const twice = digestOf(bytesOf(['a', 'a']));
    expect(new Set([once, twice, digestOf(bytesOf([]))]).size).toBe(3);
    expect(digestOf(bytesOf(['a', 'a', 'b']))).not.toBe(digestOf(bytesOf(['a', 'b', 'b'])));
  });

  it('tells values that moved from one row to another', () => {
    expect(digestOf(bytesOf(['1\tx', '2\ty']))).not.toBe(digestOf(bytesOf(['1\ty', '2\tx'])));
    expect(digestOf(bytesOf(['ab', 'c']))).not.toBe(digestOf(bytesOf(['a', 'bc'])));
    expect(digestOf(bytesOf(['', 'a']))).not.toBe(digestOf(bytesOf(['a'])));
  });

  it('gives half a million similar rows different hashes', () => {
    const seen = new Set<string>();
    for (let row = 0; row < 500_000; row++) seen.add(digestOf(Buffer.from(`${row}\t${row * 7}\tsame\n`)));
    expect(seen.size).toBe(500_000);
  });

  it('adds up: the digest of two parts is that of the whole', () => {
    fc.assert(
      fc.property(rows, rows, (left, right) => {
        expect(addRowDigests([digestOf(bytesOf(left)), digestOf(bytesOf(right))])).toBe(
          digestOf(bytesOf([...left, ...right])),
        );
      }),
    );
  });

  it('refuses a stream that ends in the middle of a row', () => {
    expect(() => digestOf(Buffer.from('a\nb'))).toThrow(/middle of a row/);
  });
});
