/**
 * The chunker port: where to cut a stream so that an edit changes few pieces. A chunker is a pure search over contiguous bytes;
 * it keeps no bytes of its own, so the caller decides how many are in memory and none are copied.
 */
export interface Chunker {
  /** Largest chunk, bytes. */
  readonly maxSize: number;
  /**
   * The end of the chunk that starts at `start`: an index in (start, end], or -1 when `end` is reached before the chunk is
   * decided (give more bytes, or take the rest when the stream has ended). The answer depends only on the bytes from `start` on.
   */
  cut(bytes: Uint8Array, start: number, end: number): number;
}
