/**
 * A worker thread of a backup: runs one task of a dump at a time and feeds its parts to the main thread as chunks and frames.
 * It holds no storage, no key but those of chunk ids and cuts, and nothing that must survive it.
 */
import { parentPort } from 'node:worker_threads';
import type { DumpTask } from '../engine/engine.ts';
import { CellarError, cancelled } from '../errors.ts';
import { engineById } from '../registry.ts';
import { type ChunkSpec, createChunkTools } from '../repository/chunk-spec.ts';
import { fromPlainError, type ToWorker, toPlainError } from './messages.ts';
import { type Post, SegmentFeed } from './segment-feed.ts';

if (parentPort === null) throw new Error('This module runs in a worker thread only.');
const port = parentPort;
const post: Post = (message, transfer = []) => port.postMessage(message, [...transfer]);

/** Made for the first task; all tasks of a thread are for the same repository. */
let feed: SegmentFeed | undefined;
const abort = new AbortController();

async function run(task: DumpTask, chunks: ChunkSpec): Promise<void> {
  feed ??= new SegmentFeed(createChunkTools(chunks), post);
  const engine = await engineById(task.engine);
  for await (const part of engine.read(task, abort.signal)) {
    const { entry, kind, table, segment } = part;
    post({ type: 'segment-begin', entry, kind, segment, ...(table === undefined ? {} : { table }) });
    const seen = await feed.feed(part.bytes);
    const result = part.result();
    if (result.bytes !== seen) {
      throw new CellarError('mismatch', `${entry} was read as ${result.bytes} bytes, and ${seen} arrived.`);
    }
    post({ type: 'segment-end', result });
  }
}

port.on('message', (message: ToWorker) => {
  switch (message.type) {
    case 'task':
      run(message.task, message.chunks).then(
        () => post({ type: 'task-end' }),
        (error: unknown) => post({ type: 'failed', error: toPlainError(error) }),
      );
      return;
    case 'verdict':
      feed?.verdict(message.known);
      return;
    case 'abort':
      abort.abort(fromPlainError(message.reason));
      feed?.fail(cancelled(abort.signal));
  }
});
