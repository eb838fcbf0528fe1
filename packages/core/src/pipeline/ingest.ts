/**
 * Takes a whole dump into a backup: as many threads as jobs, each running one task after the other, in the order the engine gave.
 * The first failure aborts the rest; when `ingest` returns or throws, no process or connection of a task is left.
 */
import type { Dump, PartResult } from '../engine/engine.ts';
import { cancelled } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import type { BackupWriter } from '../repository/backup-writer.ts';
import type { ChunkSpec } from '../repository/chunk-spec.ts';
import { type Ingestion, IngestThread } from './ingest-thread.ts';

export interface IngestOptions {
  readonly chunks: ChunkSpec;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** The threads of a backup. They are started before they have work, while the repository and the database are being opened. */
export class IngestCrew implements AsyncDisposable {
  readonly #threads: readonly IngestThread[];

  constructor(jobs: number) {
    this.#threads = Array.from({ length: jobs }, () => new IngestThread());
  }

  /** @returns the result of every part of every task, in no promised order. May be called once. */
  async ingest(dump: Dump, writer: BackupWriter, options: IngestOptions): Promise<PartResult[]> {
    const results: PartResult[] = [];
    const queue = [...dump.tasks];
    const totalBytes = queue.reduce((sum, task) => sum + task.estimatedBytes, 0);
    let bytes = 0;
    let rows = 0;
    const report = (item: string): void => options.onProgress({ phase: 'dump', item, bytes, totalBytes, rows });
    const failed = new AbortController();
    const ingestion: Ingestion = {
      writer,
      chunks: options.chunks,
      signal: AbortSignal.any([options.signal, dump.lost, failed.signal]),
      listener: {
        onBytes(entry, count) {
          bytes += count;
          report(entry);
        },
        onPart(result) {
          results.push(result);
          rows += result.rows ?? 0;
          report(result.entry);
        },
      },
    };
    const work = async (thread: IngestThread): Promise<void> => {
      try {
        for (let task = queue.shift(); task !== undefined; task = queue.shift()) await thread.run(task, ingestion);
      } catch (error) {
        failed.abort(error);
        await thread.settle();
        throw error;
      }
    };
    const outcomes = await Promise.allSettled(this.#threads.map(work));
    // What was asked for from outside explains what followed inside.
    if (options.signal.aborted) throw cancelled(options.signal);
    if (dump.lost.aborted) throw cancelled(dump.lost);
    if (failed.signal.aborted) throw failed.signal.reason;
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    return results;
  }

  /** Ends the threads, and waits for the processes and connections of tasks that were aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread[Symbol.asyncDispose]()));
  }
}
