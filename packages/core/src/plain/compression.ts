/**
 * The two ways in which plain files are compressed, and the figures that writer and threads share. Levels are chosen by measurement:
 * see the table in docs/plain-files.md.
 */
import { constants, deflateRawSync, zstdCompressSync } from 'node:zlib';

export type Compression = 'gzip' | 'zstd';

/** Bytes of raw script that are compressed at once. */
export const BLOCK_SIZE = 1024 * 1024;

/** Deflate looks back no further: what precedes a block is given to it as its dictionary. */
export const WINDOW = 32 * 1024;

/** Room for a compressed block: more than deflateBound and ZSTD_compressBound say. */
export const OUTPUT_SIZE = BLOCK_SIZE + 64 * 1024;

const GZIP_LEVEL = 5;
const ZSTD_LEVEL = 1;

/**
 * Compresses one block, so that the blocks' results in order are one deflate stream, or are zstd frames.
 * @param window for gzip, the up to 32 KiB of the stream before the block.
 */
export function compressBlock(compression: Compression, window: Uint8Array, block: Uint8Array, last: boolean): Buffer {
  if (compression === 'zstd') {
    const params = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };
    return zstdCompressSync(block, { params, chunkSize: OUTPUT_SIZE });
  }
  return deflateRawSync(block, {
    level: GZIP_LEVEL,
    // A flush ends at a byte, so that blocks can be joined.
    finishFlush: last ? constants.Z_FINISH : constants.Z_SYNC_FLUSH,
    chunkSize: OUTPUT_SIZE,
    ...(window.length === 0 ? {} : { dictionary: window }),
  });
}
