/** Work on a list by several connections at once. */

import { cancelled } from '../../errors.ts';
import type { Connection } from './connection.ts';

/**
 * Runs `work` on every item, in their order, over at most `jobs` connections made by `open`. The first error aborts the others' signal
 * and is thrown when all have ended; the connections are closed then.
 */
export async function inParallel<Item>(
  items: readonly Item[],
  jobs: number,
  open: (signal: AbortSignal) => Promise<Connection>,
  signal: AbortSignal,
  work: (connection: Connection, item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const own = AbortSignal.any([signal, failed.signal]);
  const queue = items.values();
  let firstError: { readonly error: unknown } | undefined;
  const worker = async () => {
    try {
      await using connection = await open(own);
      for (const item of queue) {
        if (own.aborted) return;
        await work(connection, item, own);
      }
    } catch (error) {
      firstError ??= { error };
      failed.abort(error);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, worker));
  if (firstError !== undefined) throw firstError.error;
  if (signal.aborted) throw cancelled(signal);
}
