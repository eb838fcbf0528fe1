/**
 * Compresses a stream on all cores. For gzip the blocks are parts of *one* deflate stream, each primed with the 32 KiB before it, as
 * pigz does: any reader takes it (several members, though valid, are more than browsers and some libraries read), and it is as small as
 * if made in one go. For zstd every block is a frame of its own with a checksum. Equal input gives equal output, on any number of cores.
 */
import { availableParallelism } from 'node:os';
import { crc32 } from 'node:zlib';
import { throwIfAborted } from '../errors.ts';
import { CompressCrew } from './compress-crew.ts';
import type { BlockDone } from './compress-worker.ts';
import { BLOCK_SIZE, type Compression, OUTPUT_SIZE, WINDOW } from './compression.ts';

export interface CompressOptions {
  /** Threads; default: one per core. */
  readonly threads?: number;
}

/** RFC 1952: no name, no time (equal input gives equal files), unknown system. */
const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255);

/**
 * Yielded arrays are valid until the next one is asked for, and those of `source` need be no longer. Memory is some blocks per
 * thread, whatever the length. An abort or the end of the iteration ends the threads.
 */
export async function* compress(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
  signal: AbortSignal,
  options: CompressOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal);
  const threads = options.threads ?? availableParallelism();
  await using crew = new CompressCrew(threads, signal);
  const blocks = new Blocks(compression, crew);
  const atOnce = 2 * threads + 2;
  const inHand: Promise<BlockDone>[] = [];
  async function* finished(leave: number): AsyncGenerator<Uint8Array> {
    while (inHand.length > leave) {
      const done = await inHand.shift();
      if (done === undefined) return;
      yield new Uint8Array(done.output, 0, done.outputLength);
      blocks.takeBack(done);
    }
  }

  if (compression === 'gzip') yield GZIP_HEADER;
  for await (const chunk of source) {
    throwIfAborted(signal);
    for (let at = 0; at < chunk.length; ) {
      // A full block waits for the byte after it, so that the last block is known as such.
      if (blocks.full) {
        inHand.push(blocks.send(false));
        yield* finished(atOnce - 1);
      }
      at += blocks.fill(chunk, at);
    }
  }
  throwIfAborted(signal);
  inHand.push(blocks.send(true));
  yield* finished(0);
  if (compression === 'gzip') yield blocks.gzipTrailer();
}

/** Fills blocks, gives them to the crew and keeps their buffers for the next. */
class Blocks {
  readonly #compression: Compression;
  readonly #crew: CompressCrew;
  readonly #inputs: ArrayBuffer[] = [];
  readonly #outputs: ArrayBuffer[] = [];
  #input: Uint8Array<ArrayBuffer>;
  #windowLength = 0;
  #filled = 0;
  #crc = 0;
  #total = 0;

  constructor(compression: Compression, crew: CompressCrew) {
    this.#compression = compression;
    this.#crew = crew;
    this.#input = this.#emptyInput();
  }

  get full(): boolean {
    return this.#filled === BLOCK_SIZE;
  }

  /** Copies from `chunk` what there is room for, and returns how many bytes that were. */
  fill(chunk: Uint8Array, at: number): number {
    const count = Math.min(chunk.length - at, BLOCK_SIZE - this.#filled);
    this.#input.set(chunk.subarray(at, at + count), this.#windowLength + this.#filled);
    this.#filled += count;
    return count;
  }

  send(last: boolean): Promise<BlockDone> {
    const input = this.#input;
    const windowLength = this.#windowLength;
    const blockLength = this.#filled;
    if (this.#compression === 'gzip') {
      this.#crc = crc32(input.subarray(windowLength, windowLength + blockLength), this.#crc);
      this.#total += blockLength;
    }
    if (!last) {
      this.#input = this.#emptyInput();
      this.#filled = 0;
      if (this.#compression === 'gzip') {
        this.#windowLength = WINDOW;
        this.#input.set(input.subarray(windowLength + blockLength - WINDOW, windowLength + blockLength));
      }
    }
    const output = this.#outputs.pop() ?? new ArrayBuffer(OUTPUT_SIZE);
    return this.#crew.compress({
      compression: this.#compression,
      input: input.buffer,
      windowLength,
      blockLength,
      last,
      output,
    });
  }

  takeBack(done: BlockDone): void {
    this.#inputs.push(done.input);
    this.#outputs.push(done.output);
  }

  /** CRC-32 and length modulo 2^32 of all input (RFC 1952). */
  gzipTrailer(): Uint8Array {
    const trailer = Buffer.alloc(8);
    trailer.writeUInt32LE(this.#crc, 0);
    trailer.writeUInt32LE(this.#total % 2 ** 32, 4);
    return trailer;
  }

  #emptyInput(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#inputs.pop() ?? new ArrayBuffer(WINDOW + BLOCK_SIZE));
  }
}
