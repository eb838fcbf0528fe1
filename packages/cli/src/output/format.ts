/** How sizes, counts, durations and times are written for people. Pure functions; machines get integers and RFC 3339 instead. */
import prettyBytes from 'pretty-bytes';
import prettyMs from 'pretty-ms';

/** `1.02 MB`: decimal units, as disks and object storages count. */
export function formatBytes(bytes: number): string {
  return prettyBytes(bytes);
}

const COUNT = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** `1,234,567`. */
export function formatCount(count: number): string {
  return COUNT.format(count);
}

/** `1 table`, `3 tables`. */
export function formatThings(count: number, one: string, many: string = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** `850ms`, `3.2s`, `4m 12s`, `2h 5m`. */
export function formatDuration(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms < 1000) return `${Math.round(ms)}ms`;
  if (ms < 60_000) return prettyMs(ms, { secondsDecimalDigits: 1 });
  return prettyMs(ms, { secondsDecimalDigits: 0, unitCount: 2 });
}

/** `12.5 %`, `<0.1 %`; a dash where there is nothing to divide by. */
export function formatShare(part: number, whole: number): string {
  if (whole <= 0) return '–';
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.1) return '<0.1 %';
  return `${percent.toFixed(1)} %`;
}

/** `2024-11-08 13:00:00 CET`: always with the zone, because a restore point without one is a riddle twice a year. */
export function formatTime(time: Date, timeZone?: string): string {
  const zone = timeZone === undefined ? {} : { timeZone };
  const parts = new Intl.DateTimeFormat('en-GB', {
    ...zone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'short',
  }).formatToParts(time);
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.find((candidate) => candidate.type === type)?.value ?? '';
  return `${part('year')}-${part('month')}-${part('day')} ${part('hour')}:${part('minute')}:${part('second')} ${part('timeZoneName')}`;
}

/**
 * Text from a database or storage, made safe for a terminal: control characters are shown, not obeyed, so that a table's
 * name can neither move the cursor nor break a line.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\t') return '\\t';
    return `\\u{${character.codePointAt(0)?.toString(16) ?? ''}}`;
  });
}
