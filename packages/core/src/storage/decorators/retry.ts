/**
 * Tries again what may pass by itself: operations that failed with a retryable error, with growing pauses. Puts are sent again only
 * from bytes, never from a stream that is half consumed; a get that broke goes on at the byte where it stopped, and a list that
 * broke starts over, without repeating names.
 *
 * A lost answer is not a lost effect: when a put is tried again and the name is taken, the object is read, and if its bytes are ours
 * the first try had worked.
 */
import { isCellarError, throwIfAborted } from '../../errors.ts';
import { isReplayable, piecesOf, type ReplayableBody, sizeOfBytes } from '../body.ts';
import type { ObjectName, Storage, StoredObject } from '../storage.ts';
import { type Clock, systemClock } from './clock.ts';

export interface RetryOptions {
  /** Attempts in all, the first included. A get or list that delivers something in between gets as many anew. Default 6. */
  readonly attempts?: number;
  /** Pause after the first failure, milliseconds; each further one is up to twice as long. Default 500. */
  readonly firstPauseMs?: number;
  /** Default 30,000. */
  readonly longestPauseMs?: number;
  readonly clock?: Clock;
  /** Numbers in [0, 1): pauses vary by it between half and whole, so that many clients do not come back at once. */
  readonly random?: () => number;
  /** Told before each pause, for the log. */
  readonly onRetry?: (retry: {
    readonly operation: string;
    readonly attempt: number;
    readonly pauseMs: number;
    readonly error: Error;
  }) => void;
}

export function withRetry(storage: Storage, options: RetryOptions = {}): Storage {
  const {
    attempts = 6,
    firstPauseMs = 500,
    longestPauseMs = 30_000,
    clock = systemClock,
    random = Math.random,
  } = options;

  /** Waits before attempt + 1, or throws the error when there is none. */
  async function pauseOrThrow(error: unknown, attempt: number, operation: string, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    if (!isCellarError(error) || !error.retryable || attempt >= attempts) throw error;
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (attempt - 1)) * (0.5 + random() / 2);
    options.onRetry?.({ operation, attempt, pauseMs, error });
    await clock.wait(pauseMs, signal);
  }

  async function retrying<T>(operation: string, signal: AbortSignal, run: (attempt: number) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await run(attempt);
      } catch (error) {
        await pauseOrThrow(error, attempt, operation, signal);
      }
    }
  }

  const retried: Storage = {
    url: storage.url,
    capabilities: storage.capabilities,

    async put(name, body, putOptions) {
      const { signal } = putOptions;
      if (!isReplayable(body)) return await storage.put(name, body, putOptions);
      return await retrying(`put ${name}`, signal, async (attempt) => {
        try {
          return await storage.put(name, body, putOptions);
        } catch (error) {
          if (attempt > 1 && isCellarError(error, 'conflict') && (await holds(retried, name, body, signal))) {
            return await retried.stat(name, { signal });
          }
          throw error;
        }
      });
    },

    async *get(name, getOptions) {
      const { signal, range } = getOptions;
      let offset = range?.offset ?? 0;
      let left = range?.length;
      for (let attempt = 1; ; attempt++) {
        try {
          // A resumed read asks for the exact rest, so that an object that shrank in between is damage and not a shorter answer.
          if (left === undefined && offset > 0) left = (await storage.stat(name, { signal })).size - offset;
          const rest = left === undefined ? { signal } : { signal, range: { offset, length: left } };
          for await (const piece of storage.get(name, rest)) {
            offset += piece.length;
            if (left !== undefined) left -= piece.length;
            attempt = 1;
            yield piece;
          }
          return;
        } catch (error) {
          await pauseOrThrow(error, attempt, `get ${name}`, signal);
        }
      }
    },

    async *list(prefix, listOptions) {
      const seen = new Set<ObjectName>();
      for (let attempt = 1; ; attempt++) {
        try {
          for await (const object of storage.list(prefix, listOptions)) {
            if (seen.has(object.name)) continue;
            seen.add(object.name);
            attempt = 1;
            yield object;
          }
          return;
        } catch (error) {
          await pauseOrThrow(error, attempt, `list ${prefix}`, listOptions.signal);
        }
      }
    },

    stat: (name, { signal }): Promise<StoredObject> =>
      retrying(`stat ${name}`, signal, () => storage.stat(name, { signal })),
    delete: (name, { signal }) => retrying(`delete ${name}`, signal, () => storage.delete(name, { signal })),
    now: ({ signal }) => retrying('now', signal, () => storage.now({ signal })),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  };
  return retried;
}

/** Whether the object's bytes are exactly those of the body. An object that cannot be seen yet is not known to be ours. */
async function holds(storage: Storage, name: ObjectName, body: ReplayableBody, signal: AbortSignal): Promise<boolean> {
  try {
    if ((await storage.stat(name, { signal })).size !== sizeOfBytes(body)) return false;
    const expected = piecesOf(body, signal);
    let rest: Uint8Array = new Uint8Array();
    for await (let stored of storage.get(name, { signal })) {
      while (stored.length > 0) {
        if (rest.length === 0) {
          const next = await expected.next();
          if (next.done === true) return false;
          rest = next.value;
        }
        const count = Math.min(stored.length, rest.length);
        if (Buffer.compare(stored.subarray(0, count), rest.subarray(0, count)) !== 0) return false;
        stored = stored.subarray(count);
        rest = rest.subarray(count);
      }
    }
    return true;
  } catch (error) {
    if (isCellarError(error, 'not-found')) return false;
    throw error;
  }
}
