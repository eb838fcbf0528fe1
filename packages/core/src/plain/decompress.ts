/**
 * Decompresses plain files, ours and anybody's: gzip of any number of members, zstd of any number of frames. A stream that is cut
 * or whose checksums differ is damaged; it never just ends.
 */
import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { CellarError, cancelled, throwIfAborted } from '../errors.ts';
import type { Compression } from './compression.ts';

/** Bytes of output per piece. */
const PIECE = 256 * 1024;

/** Throws `damaged`; errors of `source` pass through unchanged. Its arrays need be valid only until the next one is asked for. */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  throwIfAborted(signal);
  const stream: Transform =
    compression === 'gzip' ? createGunzip({ chunkSize: PIECE }) : createZstdDecompress({ chunkSize: PIECE });
  const onAbort = () => stream.destroy(cancelled(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  const state: { sourceError?: unknown; bytes: number } = { bytes: 0 };
  const feeding = feed(source, stream, state);
  try {
    for await (const piece of stream) {
      yield piece;
    }
    if (state.bytes === 0) throw cut(compression, undefined);
  } catch (error) {
    throwIfAborted(signal);
    if ('sourceError' in state) throw state.sourceError;
    throw error instanceof CellarError ? error : cut(compression, error);
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.destroy();
    await feeding;
  }
}

async function feed(
  source: AsyncIterable<Uint8Array>,
  stream: Transform,
  state: { sourceError?: unknown; bytes: number },
): Promise<void> {
  try {
    for await (const chunk of source) {
      state.bytes += chunk.length;
      if (!(await written(stream, chunk))) return;
    }
  } catch (error) {
    state.sourceError = error;
    stream.destroy(error instanceof Error ? error : new Error('the source failed'));
    return;
  }
  stream.end();
}

/** Waits until the chunk is used up; false when nobody takes it any more. */
function written(stream: Transform, chunk: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    if (stream.destroyed) return resolve(false);
    const onClose = () => resolve(false);
    stream.once('close', onClose);
    stream.write(chunk, (error) => {
      stream.off('close', onClose);
      resolve(error === null || error === undefined);
    });
  });
}

function cut(compression: Compression, cause: unknown): CellarError {
  const why = cause instanceof Error ? ` (${cause.message})` : '';
  return new CellarError('damaged', `The ${compression} data is damaged or cut off${why}.`, {
    hint: 'Use another backup, or another copy of this file.',
    cause,
  });
}
