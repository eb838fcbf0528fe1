/** The table that `npm run bench` prints: each promise, what it is measured against, and whether it was kept. */
import type { Results } from './contest.ts';

interface Promised {
  readonly what: string;
  readonly limit: number;
  readonly value: (results: Results) => number | undefined;
  readonly unit?: string;
}

const PROMISES: readonly Promised[] = [
  { what: 'first encrypted backup ÷ pg_dump -Fd -j2', limit: 0.45, value: ratio('cellar first', 'pg_dump -Fd -j2') },
  {
    what: 'first encrypted backup ÷ pg_dump -Fd -j2 -Z0',
    limit: 2,
    value: ratio('cellar first', 'pg_dump -Fd -j2 -Z0'),
  },
  {
    what: 'unchanged backup ÷ pg_dump -Fd -j2 -Z0',
    limit: 1.4,
    value: ratio('cellar unchanged', 'pg_dump -Fd -j2 -Z0'),
  },
  { what: 'unchanged backup ÷ pg_dump | restic', limit: 0.7, value: ratio('cellar unchanged', 'restic unchanged') },
  { what: 'new bytes, unchanged, % of first', limit: 0.5, value: share('cellar unchanged') },
  { what: 'new bytes, 2 % appended, % of first', limit: 4, value: share('cellar appended') },
  { what: 'new bytes, and 1 % updated, % of first', limit: 7, value: both('cellar appended', 'cellar updated') },
  { what: 'restore -j2 ÷ pg_restore -j2', limit: 1, value: ratio('cellar restore', 'pg_restore -j2') },
  { what: 'plain .sql.gz ÷ pg_dump | gzip', limit: 0.6, value: ratio('cellar plain', 'pg_dump | gzip') },
  { what: 'peak resident memory, MB', limit: 300, value: ({ peakBytes }) => maximum(Object.values(peakBytes)) / 1e6 },
];

export function printReport(results: Results, megabytes: number): void {
  console.log(`\n${megabytes} MB of dump, medians of the rounds\n`);
  for (const [name, seconds] of Object.entries(results.seconds)) {
    const peak = results.peakBytes[name] ?? 0;
    const rounds = seconds.map((second) => second.toFixed(2)).join(' ');
    console.log(
      `${name.padEnd(24)} ${median(seconds).toFixed(2).padStart(8)} s   (${rounds})` +
        (peak > 0 ? `   ${(peak / 1e6).toFixed(0)} MB resident` : ''),
    );
  }
  console.log(`\n${'promise'.padEnd(48)} ${'measured'.padStart(9)} ${'at most'.padStart(9)}`);
  for (const { what, limit, value } of PROMISES) {
    const measured = value(results);
    if (measured === undefined || !Number.isFinite(measured)) continue;
    const verdict = measured <= limit ? 'kept' : 'MISSED';
    console.log(`${what.padEnd(48)} ${measured.toFixed(2).padStart(9)} ${limit.toFixed(2).padStart(9)}  ${verdict}`);
  }
}

function ratio(ours: string, theirs: string) {
  return ({ seconds }: Results): number | undefined => {
    const a = seconds[ours];
    const b = seconds[theirs];
    return a === undefined || b === undefined ? undefined : median(a) / median(b);
  };
}

/** New bytes of a backup, in percent of the first one's. */
function share(name: string) {
  return ({ newBytes }: Results): number | undefined => {
    const first = newBytes['cellar first'];
    const added = newBytes[name];
    return first === undefined || added === undefined ? undefined : (100 * added) / first;
  };
}

function both(one: string, other: string) {
  return (results: Results): number | undefined => {
    const a = share(one)(results);
    const b = share(other)(results);
    return a === undefined || b === undefined ? undefined : a + b;
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

function maximum(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : Math.max(...values);
}
