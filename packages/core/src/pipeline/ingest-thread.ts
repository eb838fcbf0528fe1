/**
 * The main thread's end of one worker: hands it tasks, and turns what it sends into calls of the backup writer,
 * one message after the other.
 */
import { Worker } from 'node:worker_threads';
import type { DumpTask, PartResult } from '../engine/engine.ts';
import type { BackupWriter, SegmentWriter } from '../repository/backup-writer.ts';
import type { ChunkSpec } from '../repository/chunk-spec.ts';
import { type FromWorker, fromPlainError, type ToWorker, toPlainError } from './messages.ts';

/** How long an aborted worker may take to end its processes and connections before it is terminated, milliseconds. */
const ABORT_GRACE_MS = 10_000;

export interface IngestListener {
  onBytes(entry: string, bytes: number): void;
  onPart(result: PartResult): void;
}

/** What a thread's tasks are taken in for. */
export interface Ingestion {
  readonly writer: BackupWriter;
  readonly chunks: ChunkSpec;
  readonly listener: IngestListener;
  /** Its abort ends the task in hand. */
  readonly signal: AbortSignal;
}

export class IngestThread implements AsyncDisposable {
  readonly #worker: Worker;
  #ingestion: Ingestion | undefined;
  #segment: { readonly entry: string; readonly writer: SegmentWriter } | undefined;
  #handled: Promise<void> = Promise.resolve();
  #task: PromiseWithResolvers<void> | undefined;
  /** Settled when the worker itself has ended its task: no process or connection of it is left. */
  #idle: PromiseWithResolvers<void> = Promise.withResolvers();
  #failure: unknown;

  constructor() {
    this.#worker = new Worker(new URL('./worker.js', import.meta.url));
    this.#idle.resolve();
    this.#worker.on('message', (message: FromWorker) => {
      if (message.type === 'task-end' || message.type === 'failed') this.#idle.resolve();
      this.#handled = this.#handled.then(() => this.#handle(message)).catch((error: unknown) => this.#fail(error));
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => {
      this.#idle.resolve();
      this.#fail(new Error('A worker thread ended before its task did.'));
    });
  }

  /** Runs one task to its end: all its parts are then with the writer. One at a time, and all for the same ingestion. */
  async run(task: DumpTask, ingestion: Ingestion): Promise<void> {
    const { signal } = ingestion;
    if (this.#failure !== undefined) throw this.#failure;
    signal.throwIfAborted();
    this.#ingestion = ingestion;
    this.#task = Promise.withResolvers();
    this.#idle = Promise.withResolvers();
    const onAbort = (): void => this.#post({ type: 'abort', reason: toPlainError(signal.reason) });
    signal.addEventListener('abort', onAbort, { once: true });
    void this.#idle.promise.then(() => signal.removeEventListener('abort', onAbort));
    this.#post({ type: 'task', task, chunks: ingestion.chunks });
    await this.#task.promise;
  }

  /** Resolves when no task is in hand; one that was aborted is given some time to end its processes and connections. */
  async settle(): Promise<void> {
    const grace = Promise.withResolvers<void>();
    const timer = setTimeout(grace.resolve, ABORT_GRACE_MS);
    await Promise.race([this.#idle.promise, grace.promise]);
    clearTimeout(timer);
    await this.#handled;
  }

  /** Ends the thread. A task in hand must have been aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.settle();
    this.#worker.removeAllListeners();
    await this.#worker.terminate();
  }

  async #handle(message: FromWorker): Promise<void> {
    if (this.#ingestion === undefined) throw new Error('A worker thread sent something before it had a task.');
    const { writer, listener, signal } = this.#ingestion;
    switch (message.type) {
      case 'segment-begin':
        this.#segment = { entry: message.entry, writer: writer.openSegment(message.entry, message.segment) };
        return;
      case 'chunks': {
        const segment = this.#open();
        const known = await segment.writer.lookup(message.ids, message.lengths, signal);
        this.#post({ type: 'verdict', known });
        listener.onBytes(segment.entry, message.bytes);
        return;
      }
      case 'frames':
        for (const frame of message.frames) await this.#open().writer.append(frame, signal);
        return;
      case 'segment-end':
        await this.#open().writer.finish(signal);
        this.#segment = undefined;
        listener.onPart(message.result);
        return;
      case 'task-end':
        this.#task?.resolve();
        this.#task = undefined;
        return;
      case 'failed':
        this.#fail(fromPlainError(message.error));
    }
  }

  #open(): { readonly entry: string; readonly writer: SegmentWriter } {
    if (this.#segment === undefined) throw new Error('A worker thread sent chunks outside of a segment.');
    return this.#segment;
  }

  /** The worker may still be running its task: the caller's abort tells it to stop, and disposal waits for it. */
  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#task?.reject(error);
    this.#task = undefined;
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}
