/** zstd as the format uses it: level 1, because compression is what a backup's time goes into, and bounded on the way back. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { type Codec, RAW, ZSTD } from './format.ts';

/** The chunk size is that of zlib's output buffers: one of 64 KiB holds most frames, and its default of 16 KiB costs a fifth of the speed. */
const LEVEL_1 = { params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: 64 << 10 };
/** Bytes of a frame that tell whether compressing the rest is worth the time. */
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
  const payload = zstdCompressSync(bytes, LEVEL_1);
  return payload.length < bytes.length * WORTHWHILE ? { codec: ZSTD, payload } : { codec: RAW, payload: bytes };
}

/**
 * `compressFrame` for the frames of a stream. What does not compress comes in stretches (images, compressed documents): after a frame
 * that did not, samples of the next one are tried before all of it is.
 */
export function frameCompressor(): (bytes: Uint8Array) => Compressed {
  let expectRaw = false;
  return (bytes) => {
    const compressed = expectRaw && !samplesCompress(bytes) ? { codec: RAW, payload: bytes } : compressFrame(bytes);
    expectRaw = compressed.codec === RAW;
    return compressed;
  };
}

/** Whether the start or the middle of a frame compresses. */
function samplesCompress(bytes: Uint8Array): boolean {
  const middle = Math.max(0, (bytes.length - SAMPLE_BYTES) >>> 1);
  return [0, middle].some((start) => {
    const sample = bytes.subarray(start, start + SAMPLE_BYTES);
    return zstdCompressSync(sample, LEVEL_1).length < sample.length * WORTHWHILE;
  });
}

export function compressDocument(bytes: Uint8Array): Buffer {
  return zstdCompressSync(bytes, LEVEL_1);
}

/** The raw bytes, or undefined when they are no zstd frame or more than `limit` bytes. */
export function decompress(bytes: Uint8Array, limit: number): Buffer | undefined {
  try {
    // One buffer for the whole of a frame, with room for the decoder to see that nothing follows.
    return zstdDecompressSync(bytes, { maxOutputLength: limit, chunkSize: Math.min(limit, 320 << 10) + 64 });
  } catch {
    return undefined;
  }
}
