/**
 * Parsers of option values: strict, and a sentence for each refusal, because `--keep-days x` read as zero would delete everything.
 * They throw commander's own error, so that the message names the option and the exit code is 2.
 */
import { InvalidArgumentError } from 'commander';

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isNaN(number) || number < least || number > most) {
      const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`It takes a whole number ${range}.`);
    }
    return number;
  };
}

/** `25` or `25%` or `0.5%`: more than 0, at most 100. */
export function percent(text: string): number {
  const number = /^\d{1,3}(\.\d{1,4})?%?$/.test(text) ? Number(text.replace('%', '')) : Number.NaN;
  if (Number.isNaN(number) || number <= 0 || number > 100) {
    throw new InvalidArgumentError('It takes a percentage above 0 and up to 100.');
  }
  return number;
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  kib: 2 ** 10,
  m: 1e6,
  mb: 1e6,
  mib: 2 ** 20,
  g: 1e9,
  gb: 1e9,
  gib: 2 ** 30,
  t: 1e12,
  tb: 1e12,
  tib: 2 ** 40,
};

/** `500MB`, `1.5 GiB`, `2000000000`: bytes. */
export function size(text: string): number {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = SIZE_UNITS[match?.[2]?.toLowerCase() ?? 'none'];
  const bytes = unit === undefined ? Number.NaN : Math.floor(Number(match?.[1]) * unit);
  if (!Number.isSafeInteger(bytes) || bytes < 1) {
    throw new InvalidArgumentError('It takes a size such as 500MB, 20GB or 1.5GiB.');
  }
  return bytes;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `30s`, `5m`, `1h`, `500ms`: milliseconds. A bare number has no unit and is refused. */
export function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
  const milliseconds = Number(match?.[1]) * (DURATION_UNITS[match?.[2] ?? ''] ?? Number.NaN);
  // Timers, here and in PostgreSQL, hold 31 bits of milliseconds.
  if (!(milliseconds >= 1 && milliseconds <= 2 ** 31 - 1)) {
    throw new InvalidArgumentError('It takes a time such as 30s, 5m or 1h.');
  }
  return milliseconds;
}

/** An IANA time zone. */
export function timeZone(text: string): string {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: text }).resolvedOptions().timeZone;
  } catch {
    throw new InvalidArgumentError('It takes a time zone such as Europe/Berlin or UTC.');
  }
}

export interface ParsedTableName {
  readonly schema: string;
  readonly name: string;
}

/**
 * `orders`, `shop.orders`, `"My Shop"."Order.Lines"`: an exact name, in `public` where no schema is given. Quotes are needed for names
 * that hold a dot or a quote (doubled); without quotes a name is still taken letter for letter.
 */
export function tableName(text: string): ParsedTableName {
  const part = '(?:"((?:[^"]|"")+)"|([^."]+))';
  const match = new RegExp(`^(?:${part}\\.)?${part}$`, 's').exec(text);
  if (match === null) {
    throw new InvalidArgumentError('It takes a table such as orders, shop.orders or "My Shop"."Order.Lines".');
  }
  const unquoted = (quoted: string | undefined, plain: string | undefined) => quoted?.replaceAll('""', '"') ?? plain;
  return { schema: unquoted(match[1], match[2]) ?? 'public', name: unquoted(match[3], match[4]) ?? '' };
}

/** For options that may be given several times. */
export function collect<Value>(parse: (text: string) => Value): (text: string, earlier: readonly Value[]) => Value[] {
  return (text, earlier) => [...earlier, parse(text)];
}

/** Text that must not be empty: an empty one is mostly a variable that was not set. */
export function filled(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('It is empty.');
  return text;
}
