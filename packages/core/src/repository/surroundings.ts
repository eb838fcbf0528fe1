/** What the repository takes from outside besides bytes: time and chance, as parameters, so that tests turn both. */
import { randomBytes } from 'node:crypto';
import { ulid } from 'ulid';

export interface Surroundings {
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** Unpredictable bytes. */
  readonly random: (length: number) => Buffer;
  /** How many storage requests may be under way at once where many are to be made. */
  readonly requests: number;
}

export const SYSTEM: Surroundings = { clock: Date.now, random: randomBytes, requests: 8 };

/** A fresh id that sorts after all that were made before, and after `previous`, whatever the clock says. */
export function newUlid({ clock, random }: Surroundings, previousTime = -1): string {
  return ulid(Math.max(clock(), previousTime + 1), () => random(4).readUInt32BE() / 2 ** 32);
}
