/**
 * Threads that compress blocks in parallel. They are started as work comes, at most as many as asked for, and end when the crew is
 * disposed. A thread that fails, or the abort of the signal, fails all that is in hand.
 */
import { Worker } from 'node:worker_threads';
import { CellarError, cancelled } from '../errors.ts';
import type { BlockDone, BlockJob } from './compress-worker.ts';

/** Its bytes are outside of the heap; a small one has it collect sooner what it no longer needs of them: 15 MB less per thread. */
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };

interface Member {
  readonly worker: Worker;
  /** Answers in the order of the jobs given. */
  readonly waiting: { readonly resolve: (done: BlockDone) => void; readonly reject: (error: Error) => void }[];
}

export class CompressCrew implements AsyncDisposable {
  readonly #size: number;
  readonly #signal: AbortSignal;
  readonly #members: Member[] = [];
  readonly #onAbort: () => void;
  #failed: Error | undefined;

  constructor(size: number, signal: AbortSignal) {
    this.#size = size;
    this.#signal = signal;
    this.#onAbort = () => this.#fail(cancelled(signal));
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  /** The job's buffers are transferred, and come back with the answer. */
  compress(job: BlockJob): Promise<BlockDone> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    const member = this.#leastBusy();
    const answer = new Promise<BlockDone>((resolve, reject) => member.waiting.push({ resolve, reject }));
    // It is awaited when its turn comes; a failure until then must not count as unhandled.
    answer.catch(() => {});
    member.worker.postMessage(job, [job.input, job.output]);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#fail(new CellarError('cancelled', 'The compression was given up.'));
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
  }

  #leastBusy(): Member {
    const least = this.#members.toSorted((a, b) => a.waiting.length - b.waiting.length)[0];
    if (least !== undefined && (least.waiting.length === 0 || this.#members.length >= this.#size)) return least;
    return this.#start();
  }

  #start(): Member {
    const worker = new Worker(new URL('./compress-worker.ts', import.meta.url), {
      name: 'cellar-compress',
      resourceLimits: SMALL_HEAP,
    });
    const member: Member = { worker, waiting: [] };
    worker.on('message', (done: BlockDone) => member.waiting.shift()?.resolve(done));
    worker.on('error', (cause) =>
      this.#fail(new CellarError('tool-failed', 'A compression thread failed.', { cause })),
    );
    worker.on('exit', (code) => {
      this.#fail(new CellarError('tool-failed', `A compression thread ended unexpectedly, with code ${code}.`));
    });
    this.#members.push(member);
    return member;
  }

  #fail(error: Error): void {
    this.#failed ??= error;
    for (const { waiting } of this.#members) {
      for (const { reject } of waiting.splice(0)) reject(this.#failed);
    }
  }
}
