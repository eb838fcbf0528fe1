/**
 * Takes a whole dump into a backup: as many threads as jobs, each running one task after the other, in the order the engine gave.
 * The first failure aborts the rest; when this returns or throws, no thread, process or connection of a task is left.
 */
import type { Dump, PartResult } from '../engine/engine.ts';
import { cancelled } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import type { BackupWriter } from '../repository/backup-writer.ts';
import type { ChunkSpec } from '../repository/chunk-spec.ts';
import { type IngestListener, IngestThread } from './ingest-thread.ts';

export interface IngestOptions {
  readonly jobs: number;
  readonly chunks: ChunkSpec;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** @returns the result of every part of every task, in no promised order. */
export async function ingest(dump: Dump, writer: BackupWriter, options: IngestOptions): Promise<PartResult[]> {
  const results: PartResult[] = [];
  const queue = [...dump.tasks];
  const totalBytes = queue.reduce((sum, task) => sum + task.estimatedBytes, 0);
  let bytes = 0;
  let rows = 0;
  const report = (item: string): void => options.onProgress({ phase: 'dump', item, bytes, totalBytes, rows });
  const listener: IngestListener = {
    onBytes(entry, count) {
      bytes += count;
      report(entry);
    },
    onPart(result) {
      results.push(result);
      rows += result.rows ?? 0;
      report(result.entry);
    },
  };

  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, dump.lost, failed.signal]);
  const runThread = async (): Promise<void> => {
    await using thread = new IngestThread({ chunks: options.chunks }, writer, listener, signal);
    try {
      for (let task = queue.shift(); task !== undefined; task = queue.shift()) await thread.run(task);
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  };
  const threads = Array.from({ length: Math.min(options.jobs, queue.length) }, runThread);
  const outcomes = await Promise.allSettled(threads);
  // What was asked for from outside explains what followed inside.
  if (options.signal.aborted) throw cancelled(options.signal);
  if (dump.lost.aborted) throw cancelled(dump.lost);
  if (failed.signal.aborted) throw failed.signal.reason;
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return results;
}
