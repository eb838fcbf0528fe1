/**
 * Time as decorators use it: read, and waited for. A parameter everywhere, so that tests turn it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { cancelled, throwIfAborted } from '../../errors.ts';

export interface Clock {
  /** Milliseconds from any fixed point; never runs backwards. */
  now(): number;
  /** Resolves after that many milliseconds; rejects with the cancellation when the signal is aborted first. */
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  async wait(milliseconds, signal) {
    throwIfAborted(signal);
    try {
      await delay(milliseconds, undefined, { signal });
    } catch {
      throw cancelled(signal);
    }
  },
};
