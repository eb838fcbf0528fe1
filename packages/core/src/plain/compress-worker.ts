/**
 * The thread that compresses blocks. Buffers come and go by transfer: the block goes back to be filled again, and the result is put
 * into a buffer that came along.
 */
import { parentPort } from 'node:worker_threads';
import { type Compression, compressBlock } from './compression.ts';

export interface BlockJob {
  readonly compression: Compression;
  /** The window, then the block. */
  readonly input: ArrayBuffer;
  readonly windowLength: number;
  readonly blockLength: number;
  readonly last: boolean;
  readonly output: ArrayBuffer;
}

export interface BlockDone {
  readonly input: ArrayBuffer;
  readonly output: ArrayBuffer;
  readonly outputLength: number;
}

parentPort?.on('message', (job: BlockJob) => {
  const { compression, input, windowLength, blockLength, last, output } = job;
  const window = new Uint8Array(input, 0, windowLength);
  const block = new Uint8Array(input, windowLength, blockLength);
  const compressed = compressBlock(compression, window, block, last);
  compressed.copy(new Uint8Array(output));
  const done: BlockDone = { input, output, outputLength: compressed.length };
  parentPort?.postMessage(done, [input, output]);
});
