/** Chunks of one size: for files that change in place, block by block, where content-defined cuts would gain nothing. */
import { CellarError } from '../errors.ts';
import type { Chunker } from './chunker.ts';

/** @param size bytes of every chunk but the last. Throws `invalid-input` when it is not a positive whole number. */
export function fixedSizeChunker(size: number): Chunker {
  if (!Number.isSafeInteger(size) || size <= 0) {
    throw new CellarError('invalid-input', `A chunk size must be a positive whole number of bytes, not ${size}.`);
  }
  return {
    maxSize: size,
    cut: (_bytes, start, end) => (end - start >= size ? start + size : -1),
  };
}
