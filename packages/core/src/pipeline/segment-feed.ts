/**
 * Takes one segment's bytes apart: into batches, chunks and ids, asks which chunks are new, and compresses those into frames.
 * Runs in a worker thread. Three batches circulate: one is filled while the verdicts of the others are on their way, so the
 * source is read, hashed and compressed without anybody waiting, in memory that does not grow with the stream.
 */
import type { SegmentFrame } from '../repository/backup-writer.ts';
import type { ChunkTools } from '../repository/chunk-spec.ts';
import type { FromWorker } from './messages.ts';

const BATCH_BYTES = 1 << 20;
const BATCHES = 3;
/** Raw bytes of a frame: large enough to compress well, small enough that restoring a part reads little else. */
const FRAME_BYTES = 256 << 10;

export type Post = (message: FromWorker, transfer?: readonly ArrayBuffer[]) => void;

interface Batch {
  readonly buffer: Uint8Array;
  firstChunk: number;
  lengths: Uint32Array;
}

export class SegmentFeed {
  readonly #tools: ChunkTools;
  readonly #post: Post;
  readonly #free: Batch[] = [];
  readonly #awaitingVerdict: Batch[] = [];
  #wake: (() => void) | undefined;
  #failure: Error | undefined;

  constructor(tools: ChunkTools, post: Post) {
    this.#tools = tools;
    this.#post = post;
    for (let i = 0; i < BATCHES; i++) {
      this.#free.push({
        buffer: new Uint8Array(BATCH_BYTES + tools.chunker.maxSize),
        firstChunk: 0,
        lengths: new Uint32Array(0),
      });
    }
  }

  /** Feeds a whole segment; resolves with its length in bytes when the frames of its last chunk have been posted. */
  async feed(bytes: AsyncIterable<Uint8Array>): Promise<number> {
    let batch = await this.#take();
    let filled = 0;
    let total = 0;
    let chunks = 0;
    for await (const piece of bytes) {
      total += piece.length;
      let taken = 0;
      while (taken < piece.length) {
        const count = Math.min(piece.length - taken, batch.buffer.length - filled);
        batch.buffer.set(count === piece.length ? piece : piece.subarray(taken, taken + count), filled);
        taken += count;
        filled += count;
        if (filled < batch.buffer.length) break;
        const next = await this.#take();
        const decided = this.#submit(batch, filled, chunks, false);
        chunks += batch.lengths.length;
        next.buffer.set(batch.buffer.subarray(decided, filled));
        filled -= decided;
        batch = next;
      }
    }
    if (filled > 0) this.#submit(batch, filled, chunks, true);
    else this.#free.push(batch);
    await this.#drained();
    return total;
  }

  /** The main thread's answer to the oldest `chunks` message. */
  verdict(known: Uint8Array): void {
    const batch = this.#awaitingVerdict.shift();
    if (batch === undefined) throw new Error('A verdict arrived that nobody asked for.');
    const frames = this.#frames(batch, known);
    if (frames.length > 0) {
      this.#post(
        { type: 'frames', frames },
        frames.map((frame) => frame.payload.buffer as ArrayBuffer),
      );
    }
    this.#free.push(batch);
    this.#wake?.();
  }

  /** Ends the feeding with an error at its next wait. */
  fail(error: Error): void {
    this.#failure = error;
    this.#wake?.();
  }

  /** Cuts what is decided (all, when `last`), announces the chunks, and returns where the undecided rest begins. */
  #submit(batch: Batch, filled: number, firstChunk: number, last: boolean): number {
    const { chunker, writeId } = this.#tools;
    const ends: number[] = [];
    let start = 0;
    while (start < filled) {
      let end = chunker.cut(batch.buffer, start, filled);
      if (end === -1) {
        if (!last) break;
        end = filled;
      }
      ends.push(end);
      start = end;
    }
    const ids = new Uint8Array(ends.length * 16);
    const lengths = new Uint32Array(ends.length);
    let from = 0;
    ends.forEach((end, i) => {
      writeId(batch.buffer.subarray(from, end), ids, i * 16);
      lengths[i] = end - from;
      from = end;
    });
    batch.firstChunk = firstChunk;
    batch.lengths = lengths;
    this.#awaitingVerdict.push(batch);
    this.#post({ type: 'chunks', ids, lengths: lengths.slice(), bytes: start }, [ids.buffer]);
    return start;
  }

  /** Runs of consecutive new chunks, cut at FRAME_BYTES, compressed. */
  #frames(batch: Batch, known: Uint8Array): SegmentFrame[] {
    const frames: SegmentFrame[] = [];
    const { lengths } = batch;
    let offset = 0;
    let i = 0;
    while (i < lengths.length) {
      if (known[i] === 1) {
        offset += lengths[i] ?? 0;
        i++;
        continue;
      }
      const first = i;
      const start = offset;
      do {
        offset += lengths[i] ?? 0;
        i++;
      } while (i < lengths.length && known[i] !== 1 && offset + (lengths[i] ?? 0) - start <= FRAME_BYTES);
      const { codec, payload } = this.#tools.compress(batch.buffer.subarray(start, offset));
      frames.push({
        firstChunk: batch.firstChunk + first,
        chunks: i - first,
        rawLength: offset - start,
        codec,
        // What is posted is transferred whole: a view of a larger buffer, or of the batch itself, has to be copied.
        payload: payload.byteLength === payload.buffer.byteLength ? payload : new Uint8Array(payload),
      });
    }
    return frames;
  }

  async #take(): Promise<Batch> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const batch = this.#free.pop();
      if (batch !== undefined) return batch;
      await this.#change();
    }
  }

  async #drained(): Promise<void> {
    while (this.#awaitingVerdict.length > 0) {
      if (this.#failure !== undefined) throw this.#failure;
      await this.#change();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
