/**
 * Content-defined chunking (FastCDC): a rolling "gear" hash decides where to cut, so an insertion moves only the cuts near it.
 * The table of the gear hash comes from the repository's key, which raises the bar against fingerprinting contents by chunk sizes.
 * The rule is specified in docs/repository-format.md, section 3; changing it would end deduplication against older backups.
 */
import { CellarError } from '../errors.ts';
import type { Chunker } from './chunker.ts';

export interface ContentDefinedSizes {
  /** Bytes. No chunk but the last of a stream is this short or shorter. */
  readonly minSize: number;
  /** Bytes; a power of two. */
  readonly averageSize: number;
  /** Bytes. */
  readonly maxSize: number;
}

/** Bytes of key material that the 256 numbers of a gear table are made from. */
export const GEAR_TABLE_BYTES = 1024;

/** Bits by which the condition is harder before the average size, and easier after it: pulls sizes towards the average. */
const NORMALISATION = 2;

/** @param gearBytes `GEAR_TABLE_BYTES` bytes: 256 big-endian numbers of 32 bits. Throws `invalid-input` on impossible sizes. */
export function contentDefinedChunker(sizes: ContentDefinedSizes, gearBytes: Uint8Array): Chunker {
  const { minSize, averageSize, maxSize } = sizes;
  checkSizes(sizes);
  const gear = gearTable(gearBytes);
  const doubled = gear.map((number) => number << 1);
  const bits = Math.log2(averageSize);
  const hardMask = topBits(bits + NORMALISATION);
  const easyMask = topBits(bits - NORMALISATION);
  let hash = 0;

  /** The first cut in (from, to] after which `mask`ed bits of the hash are zero, or -1; leaves the hash for the bytes after `to`. */
  function search(bytes: Uint8Array, from: number, to: number, mask: number): number {
    let h = hash;
    let i = from;
    // Two bytes a step: the hash after the second does not wait for the hash after the first, which doubles the speed.
    for (const last = to - 1; i < last; i += 2) {
      const a = bytes[i] as number;
      const b = bytes[i + 1] as number;
      const first = ((h << 1) + (gear[a] as number)) | 0;
      h = ((h << 2) + (((doubled[a] as number) + (gear[b] as number)) | 0)) | 0;
      if ((first & mask) === 0) return i + 1;
      if ((h & mask) === 0) return i + 2;
    }
    if (i < to) {
      h = ((h << 1) + (gear[bytes[i] as number] as number)) | 0;
      if ((h & mask) === 0) return i + 1;
    }
    hash = h;
    return -1;
  }

  return {
    maxSize,
    cut(bytes, start, end) {
      const limit = Math.min(end, start + maxSize);
      const middle = Math.min(limit, start + averageSize);
      hash = 0;
      if (start + minSize < middle) {
        const cut = search(bytes, start + minSize, middle, hardMask);
        if (cut !== -1) return cut;
      }
      if (middle < limit) {
        const cut = search(bytes, middle, limit, easyMask);
        if (cut !== -1) return cut;
      }
      return end - start >= maxSize ? limit : -1;
    },
  };
}

function topBits(count: number): number {
  return -(2 ** (32 - count)) | 0;
}

function gearTable(gearBytes: Uint8Array): Int32Array {
  if (gearBytes.length !== GEAR_TABLE_BYTES) {
    throw new CellarError(
      'invalid-input',
      `A gear table is made from ${GEAR_TABLE_BYTES} bytes, not ${gearBytes.length}.`,
    );
  }
  const view = new DataView(gearBytes.buffer, gearBytes.byteOffset, gearBytes.byteLength);
  return Int32Array.from({ length: 256 }, (_, i) => view.getInt32(i * 4));
}

function checkSizes({ minSize, averageSize, maxSize }: ContentDefinedSizes): void {
  const whole = [minSize, averageSize, maxSize].every((size) => Number.isSafeInteger(size) && size > 0);
  const powerOfTwo = Number.isInteger(Math.log2(averageSize));
  if (
    !whole ||
    !powerOfTwo ||
    averageSize < 64 ||
    averageSize > 2 ** 24 ||
    minSize >= averageSize ||
    maxSize <= averageSize
  ) {
    throw new CellarError('invalid-input', `Chunk sizes ${minSize}/${averageSize}/${maxSize} are not possible.`, {
      hint: 'They must grow from the least over the average (a power of two from 64 to 16777216) to the largest.',
    });
  }
}
