/** Work on a list by several connections at once. */

import { cancelled } from '../../errors.ts';
import type { Connection } from './connection.ts';

/**
 * Runs `work` on every item, in their order, over at most `jobs` connections made by `open`. The first error aborts the others' signal
 * and is thrown when all have ended; the connections are closed then. `idle` is called by those that find nothing left while others
 * still work, for as long as it returns true.
 */
export async function inParallel<Item>(
  items: readonly Item[],
  jobs: number,
  open: (signal: AbortSignal) => Promise<Connection>,
  signal: AbortSignal,
  work: (connection: Connection, item: Item, signal: AbortSignal) => Promise<void>,
  idle: (signal: AbortSignal) => Promise<boolean> = async () => false,
): Promise<void> {
  const failed = new AbortController();
  const own = AbortSignal.any([signal, failed.signal]);
  const queue = items.values();
  let firstError: { readonly error: unknown } | undefined;
  let working = 0;
  const worker = async () => {
    try {
      await using connection = await open(own);
      for (const item of queue) {
        if (own.aborted) return;
        working++;
        await work(connection, item, own);
        working--;
      }
      while (working > 0 && !own.aborted && (await idle(own)));
    } catch (error) {
      firstError ??= { error };
      failed.abort(error);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, worker));
  if (firstError !== undefined) throw firstError.error;
  if (signal.aborted) throw cancelled(signal);
}

/** Runs two works at once. The first error aborts the other's signal and is thrown when both have ended. */
export async function together<A, B>(
  signal: AbortSignal,
  first: (signal: AbortSignal) => Promise<A>,
  second: (signal: AbortSignal) => Promise<B>,
): Promise<[A, B]> {
  const failed = new AbortController();
  const own = AbortSignal.any([signal, failed.signal]);
  let firstError: { readonly error: unknown } | undefined;
  const guarded = async <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> => {
    try {
      return await work(own);
    } catch (error) {
      firstError ??= { error };
      failed.abort(error);
      return undefined;
    }
  };
  const results = await Promise.all([guarded(first), guarded(second)]);
  if (firstError !== undefined) throw firstError.error;
  return results as [A, B];
}
