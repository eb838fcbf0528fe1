/** zstd as the format uses it: level 1, because compression is what a backup's time goes into, and bounded on the way back. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { type Codec, RAW, ZSTD } from './format.ts';

const LEVEL_1 = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Bytes of the start of a frame that tell whether compressing the rest is worth the time. */
const SAMPLE_BYTES = 16384;
/** A compressed form must be this much smaller than the raw one, else reading it back is not worth the work. */
const WORTHWHILE = 0.96;

export interface Compressed {
  readonly codec: Codec;
  /** For codec raw: the very bytes that were given. */
  readonly payload: Uint8Array;
}

/** Compresses a frame's bytes, or gives them back as they are when that does not pay. */
export function compressFrame(bytes: Uint8Array): Compressed {
  if (bytes.length > 4 * SAMPLE_BYTES) {
    const middle = (bytes.length - SAMPLE_BYTES) >>> 1;
    const sample = zstdCompressSync(bytes.subarray(middle, middle + SAMPLE_BYTES), LEVEL_1);
    if (sample.length > SAMPLE_BYTES * WORTHWHILE && !compresses(bytes.subarray(0, SAMPLE_BYTES))) {
      return { codec: RAW, payload: bytes };
    }
  }
  const payload = zstdCompressSync(bytes, LEVEL_1);
  return payload.length < bytes.length * WORTHWHILE ? { codec: ZSTD, payload } : { codec: RAW, payload: bytes };
}

function compresses(sample: Uint8Array): boolean {
  return zstdCompressSync(sample, LEVEL_1).length <= sample.length * WORTHWHILE;
}

export function compressDocument(bytes: Uint8Array): Buffer {
  return zstdCompressSync(bytes, LEVEL_1);
}

/** The raw bytes, or undefined when they are no zstd frame or more than `limit` bytes. */
export function decompress(bytes: Uint8Array, limit: number): Buffer | undefined {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: limit });
  } catch {
    return undefined;
  }
}
