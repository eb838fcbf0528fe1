/**
 * What a worker thread needs to take a stream apart the way its repository does: plain data, and the tools made from it.
 * No storage and no key that opens anything: ids and cuts only.
 */
import { createHmac, createSecretKey } from 'node:crypto';
import type { Chunker } from '../chunker/chunker.ts';
import { contentDefinedChunker } from '../chunker/content-defined.ts';
import { fixedSizeChunker } from '../chunker/fixed-size.ts';
import { assertNever } from '../errors.ts';
import { type Compressed, frameCompressor } from './compression.ts';
import { ID_BYTES } from './format.ts';

export type ChunkerConfig =
  | {
      readonly kind: 'content-defined';
      readonly minSize: number;
      readonly averageSize: number;
      readonly maxSize: number;
    }
  | { readonly kind: 'fixed-size'; readonly size: number };

export const DEFAULT_CHUNKER: ChunkerConfig = {
  kind: 'content-defined',
  minSize: 8192,
  averageSize: 32768,
  maxSize: 131072,
};

/** Survives structured cloning. */
export interface ChunkSpec {
  readonly chunker: ChunkerConfig;
  readonly gearTable: Uint8Array;
  readonly chunkIdKey: Uint8Array;
}

export interface ChunkTools {
  readonly chunker: Chunker;
  /** Writes the 16-byte id of a chunk to `into` at `offset`. */
  readonly writeId: (bytes: Uint8Array, into: Uint8Array, offset: number) => void;
  readonly compress: (bytes: Uint8Array) => Compressed;
}

export function createChunkTools(spec: ChunkSpec): ChunkTools {
  const idOf = chunkIds(spec.chunkIdKey);
  return {
    chunker: createChunker(spec.chunker, spec.gearTable),
    writeId: (bytes, into, offset) => into.set(idOf(bytes), offset),
    compress: frameCompressor(),
  };
}

export function createChunker(config: ChunkerConfig, gearTable: Uint8Array): Chunker {
  switch (config.kind) {
    case 'content-defined':
      return contentDefinedChunker(config, gearTable);
    case 'fixed-size':
      return fixedSizeChunker(config.size);
    default:
      return assertNever(config);
  }
}

/** The function from a chunk's bytes to its id: the first 16 bytes of their HMAC-SHA256. */
export function chunkIds(key: Uint8Array): (bytes: Uint8Array) => Buffer {
  const secret = createSecretKey(key);
  return (bytes) => createHmac('sha256', secret).update(bytes).digest().subarray(0, ID_BYTES);
}
