/**
 * Keeps a storage from being asked for too much: a largest number of operations at once, and bytes per second in each direction.
 * One set of limits belongs to one decorated storage; its operations share it fairly, first come, first served.
 * An upload limit makes a stream of every body, which cannot be sent again: `withRetry` goes around the limits, not inside.
 */
import { CellarError, cancelled, throwIfAborted } from '../../errors.ts';
import { piecesOf } from '../body.ts';
import type { Storage } from '../storage.ts';
import { type Clock, systemClock } from './clock.ts';

export interface LimitOptions {
  /** Operations at once; a get or list counts until its stream ends. Default: no limit. */
  readonly concurrency?: number;
  /** Bytes per second sent by puts. Default: no limit. */
  readonly uploadBytesPerSecond?: number;
  /** Bytes per second received by gets. Default: no limit. */
  readonly downloadBytesPerSecond?: number;
  readonly clock?: Clock;
}

/**
 * With a concurrency limit a get must not be left half-read while its consumer starts another operation on the same storage and
 * waits for it: with all places taken that way nobody would go on.
 */
export function withLimits(storage: Storage, options: LimitOptions): Storage {
  const clock = options.clock ?? systemClock;
  const places = options.concurrency === undefined ? undefined : createPlaces(options.concurrency);
  const up = options.uploadBytesPerSecond === undefined ? undefined : createPace(options.uploadBytesPerSecond, clock);
  const down =
    options.downloadBytesPerSecond === undefined ? undefined : createPace(options.downloadBytesPerSecond, clock);

  async function inPlace<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    const leave = await places?.enter(signal);
    try {
      return await run();
    } finally {
      leave?.();
    }
  }

  async function* streamInPlace<T>(
    signal: AbortSignal,
    open: () => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const leave = await places?.enter(signal);
    try {
      yield* open();
    } finally {
      leave?.();
    }
  }

  return {
    url: storage.url,
    capabilities: storage.capabilities,
    put: (name, body, { signal }) =>
      inPlace(signal, () =>
        storage.put(name, up === undefined ? body : paced(piecesOf(body, signal), up, signal), { signal }),
      ),
    get: (name, { signal, range }) =>
      streamInPlace(signal, () => {
        const bytes = storage.get(name, range === undefined ? { signal } : { signal, range });
        return down === undefined ? bytes : paced(bytes, down, signal);
      }),
    list: (prefix, { signal }) => streamInPlace(signal, () => storage.list(prefix, { signal })),
    stat: (name, { signal }) => inPlace(signal, () => storage.stat(name, { signal })),
    delete: (name, { signal }) => inPlace(signal, () => storage.delete(name, { signal })),
    now: ({ signal }) => inPlace(signal, () => storage.now({ signal })),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  };
}

interface Places {
  /** Waits for a free place; the answer gives it back. */
  enter(signal: AbortSignal): Promise<() => void>;
}

function createPlaces(count: number): Places {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new CellarError('invalid-input', `${count} is no number of operations that may run at once.`, {
      hint: 'Give 1 or more.',
    });
  }
  let free = count;
  const waiting: (() => void)[] = [];
  const leave = (): void => {
    const next = waiting.shift();
    if (next === undefined) free++;
    else next();
  };
  return {
    async enter(signal) {
      throwIfAborted(signal);
      if (free > 0) {
        free--;
        return leave;
      }
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => {
          waiting.splice(waiting.indexOf(turn), 1);
          reject(cancelled(signal));
        };
        const turn = (): void => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
        signal.addEventListener('abort', onAbort, { once: true });
        waiting.push(turn);
      });
      return leave;
    },
  };
}

interface Pace {
  /** Waits until that many more bytes may pass. */
  pass(bytes: number, signal: AbortSignal): Promise<void>;
}

/** Bytes are booked one after another on a time line; nothing is saved up while idle, so there are no bursts after a pause. */
function createPace(bytesPerSecond: number, clock: Clock): Pace {
  if (!(bytesPerSecond > 0 && Number.isFinite(bytesPerSecond))) {
    throw new CellarError('invalid-input', `${bytesPerSecond} is no number of bytes per second.`, {
      hint: 'Give more than 0.',
    });
  }
  let bookedUntil = clock.now();
  return {
    async pass(bytes, signal) {
      const from = Math.max(bookedUntil, clock.now());
      bookedUntil = from + (bytes / bytesPerSecond) * 1000;
      const wait = bookedUntil - clock.now();
      if (wait > 0) await clock.wait(wait, signal);
    },
  };
}

/** Pieces are passed in parts of at most this many bytes, so that a slow limit flows instead of stuttering. */
const PACED_PIECE = 64 * 1024;

async function* paced(
  bytes: AsyncIterable<Uint8Array>,
  pace: Pace,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of bytes) {
    for (let at = 0; at < piece.length; at += PACED_PIECE) {
      const part = piece.subarray(at, at + PACED_PIECE);
      await pace.pass(part.length, signal);
      yield part;
    }
  }
}
