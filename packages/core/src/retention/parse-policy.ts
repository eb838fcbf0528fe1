/**
 * Where policies from outside (options, settings, JSON) become checked ones. Nothing falls back silently: a rule that is not
 * understood could delete what a person meant to keep.
 */
import { CellarError } from '../errors.ts';
import type { RetentionPolicy } from './policy.ts';

/** Largest numbers: 270 years of days, and more slots than anybody has backups; a size has only JavaScript's own limit. */
const LARGEST: Readonly<Record<keyof RetentionPolicy, number>> = {
  keepDays: 100_000,
  keepLast: 1_000_000,
  keepDaily: 1_000_000,
  keepWeekly: 1_000_000,
  keepMonthly: 1_000_000,
  keepYearly: 1_000_000,
  maxTotalBytes: Number.MAX_SAFE_INTEGER,
};

/**
 * Checks a policy. Rules that are undefined or null are not there. Throws `invalid-input`, naming the rule, for an unknown rule, a
 * value that is no whole number, and for less than 1: a 0 could mean "keep none" as well as "no such rule".
 */
export function parsePolicy(input: Readonly<Record<string, unknown>>): RetentionPolicy {
  const policy: { -readonly [rule in keyof RetentionPolicy]: RetentionPolicy[rule] } = {};
  for (const [rule, value] of Object.entries(input)) {
    if (!isRule(rule)) {
      throw new CellarError('invalid-input', `There is no retention rule ${JSON.stringify(rule)}.`, {
        hint: `The rules are ${Object.keys(LARGEST).join(', ')}.`,
      });
    }
    if (value === undefined || value === null) continue;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > LARGEST[rule]) {
      const got = typeof value === 'number' ? String(value) : JSON.stringify(value);
      throw new CellarError('invalid-input', `The retention rule ${rule} cannot be ${got}.`, {
        hint: `Give a whole number from 1 to ${LARGEST[rule]}, or leave the rule out to have none of its kind.`,
      });
    }
    policy[rule] = value;
  }
  return policy;
}

/** Checks the name of a time zone: `Europe/Berlin`, `UTC`. Throws `invalid-input`. */
export function parseTimeZone(text: string): string {
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(text).timeZoneId;
  } catch (error) {
    throw new CellarError('invalid-input', `${JSON.stringify(text)} is no time zone that is known here.`, {
      hint: 'Give an IANA name such as Europe/Berlin, America/New_York or UTC.',
      cause: error,
    });
  }
}

function isRule(text: string): text is keyof RetentionPolicy {
  return Object.hasOwn(LARGEST, text);
}
