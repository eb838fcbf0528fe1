/**
 * How long backups live: a pure decision over a list, with the reasons a person can read.
 *
 * Each database is decided by itself, and so are the backups of each part of one. Every rule of the policy names backups to keep, and the union is kept; a backup that no rule
 * names goes. The size limit comes last and takes away the oldest. Above all rules stand two promises: the newest good backup of a
 * database and every held one stay. A policy without rules keeps everything.
 *
 * Failed backups fill no slot. They are kept while they may still explain something: as long as the age rule says, while they are
 * newer than the oldest of the `keepLast` good ones, and when nothing newer exists. Backups that a wrong clock dated in the future fill
 * none either: each would count as the newest until that day, and the real newest ones would be deleted in its place.
 */
import { type Period, periodKey, wallClock } from './periods.ts';

/** What retention needs to know of a backup. */
export interface RetainedBackup {
  /** Unique. Of two backups at the same instant the one with the greater id counts as newer. */
  readonly id: string;
  readonly database: string;
  /** Which part of the database it holds, as `partOf` says it; absent: all of it. */
  readonly part?: string | undefined;
  readonly createdAt: Date;
  readonly sizeBytes: number;
  /** Complete and not known to be damaged. */
  readonly good: boolean;
  /** Why it must not be deleted, in a person's words. */
  readonly held?: string;
}

/** Each number is a whole one from 1 on; see `parsePolicy`. */
export interface RetentionPolicy {
  /** Keep what is not older, in calendar days of the time zone: across a change of the clocks it is the same wall time. */
  readonly keepDays?: number;
  /** Keep the newest so many. */
  readonly keepLast?: number;
  /** Keep the newest backup of each of the last so many days, weeks (ISO), months, years that have a backup. */
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  /** Bytes of one database's backups in all (those of a part by themselves); beyond it failed ones go first, then the oldest, whatever other rules say. */
  readonly maxTotalBytes?: number;
}

export interface RetentionDecision<Backup extends RetainedBackup = RetainedBackup> {
  readonly backup: Backup;
  readonly action: 'keep' | 'delete';
  /** At least one: `newest good backup`, `daily 3 of 7`, `older than 30 days`, `held: audit`. */
  readonly reasons: readonly string[];
}

/**
 * Decides about every backup, by database (in order of name) and part (the whole first), newest first. The order of `backups` does not matter.
 * @param policy as `parsePolicy` returns it.
 * @param timeZone an IANA name, as `parseTimeZone` returns it: in it days, weeks, months and years begin.
 */
export function decideRetention<Backup extends RetainedBackup>(
  backups: readonly Backup[],
  policy: RetentionPolicy,
  now: Date,
  timeZone: string,
): RetentionDecision<Backup>[] {
  const series = Map.groupBy(backups, seriesOf);
  return [...series]
    .sort(([one], [other]) => compare(one, other))
    .flatMap(([, ofSeries]) => decideSeries(ofSeries, policy, now, timeZone));
}

/** Backups of one series stand in for each other. */
export function seriesOf({ database, part }: RetainedBackup): string {
  return part === undefined ? database : `${database}\0${part}`;
}

/** Longer than clocks that are looked after differ, shorter than what matters to any rule. */
const FUTURE_MS = 24 * 60 * 60 * 1000;

/** The one that no rule takes away; undefined where there is none, or only such as are dated in the future. */
export function newestGood<Backup extends RetainedBackup>(backups: readonly Backup[], now: Date): Backup | undefined {
  return newestFirst(backups).find((backup) => backup.good && !isFuture(backup, now));
}

function isFuture({ createdAt }: RetainedBackup, now: Date): boolean {
  return createdAt.getTime() - now.getTime() > FUTURE_MS;
}

interface Verdict<Backup extends RetainedBackup> {
  readonly backup: Backup;
  /** Why it stays; empty: it goes. */
  keep: string[];
  /** Why each rule does not keep it. */
  drop: string[];
}

function decideSeries<Backup extends RetainedBackup>(
  backups: readonly Backup[],
  policy: RetentionPolicy,
  now: Date,
  timeZone: string,
): RetentionDecision<Backup>[] {
  const verdicts: Verdict<Backup>[] = newestFirst(backups).map((backup) => ({ backup, keep: [], drop: [] }));
  const good = verdicts.filter(({ backup }) => backup.good && !isFuture(backup, now));
  const failed = verdicts.filter(({ backup }) => !backup.good);
  const { keepDays, keepLast, maxTotalBytes, ...slots } = policy;

  for (const { backup, keep } of verdicts) if (backup.held !== undefined) keep.push(`held: ${backup.held}`);
  good[0]?.keep.push('newest good backup');
  for (const { backup, keep } of verdicts) if (backup.good && isFuture(backup, now)) keep.push('dated in the future');

  if (keepDays !== undefined) applyAge(verdicts, keepDays, now, timeZone);
  if (keepLast !== undefined) applyLast(good, failed, keepLast);
  for (const [period, count] of periodRules(slots)) applyPeriod(good, period, count, timeZone);

  const [newest] = verdicts;
  if (newest !== undefined && !newest.backup.good) newest.keep.push('failed, but nothing newer exists');
  for (const { drop } of failed) drop.push('failed');

  const onlySize = keepDays === undefined && keepLast === undefined && periodRules(slots).length === 0;
  if (onlySize) {
    const reason = maxTotalBytes === undefined ? 'the policy has no rules' : 'within the size limit';
    for (const { keep } of verdicts) if (keep.length === 0) keep.push(reason);
  }
  // Where no good backup exists, the newest failed one is all there is.
  if (maxTotalBytes !== undefined) applySize(verdicts, good[0] ?? newest, maxTotalBytes);

  return verdicts.map(({ backup, keep, drop }) =>
    keep.length > 0 ? { backup, action: 'keep', reasons: keep } : { backup, action: 'delete', reasons: drop },
  );
}

function applyAge(verdicts: readonly Verdict<RetainedBackup>[], days: number, now: Date, timeZone: string): void {
  const cutoff = wallClock(now, timeZone).subtract({ days }).epochMilliseconds;
  for (const { backup, keep, drop } of verdicts) {
    if (backup.createdAt.getTime() < cutoff) drop.push(`older than ${counted(days, 'day')}`);
    else keep.push(`${backup.good ? '' : 'failed, '}not older than ${counted(days, 'day')}`);
  }
}

function applyLast(
  good: readonly Verdict<RetainedBackup>[],
  failed: readonly Verdict<RetainedBackup>[],
  count: number,
): void {
  good.forEach(({ keep, drop }, index) => {
    if (index < count) keep.push(`last ${index + 1} of ${count}`);
    else drop.push(`not among the last ${count}`);
  });
  const oldest = good.slice(0, count).at(-1)?.backup;
  for (const { backup, keep } of failed) {
    if (oldest !== undefined && isNewer(backup, oldest))
      keep.push(`failed, newer than the oldest of the last ${count}`);
  }
}

/** The newest backup of a period fills its slot; periods without a backup take none. */
function applyPeriod(good: readonly Verdict<RetainedBackup>[], period: Period, count: number, timeZone: string): void {
  const seen = new Set<string>();
  for (const { backup, keep, drop } of good) {
    const key = periodKey(backup.createdAt, period.unit, timeZone);
    if (seen.has(key)) {
      drop.push(`not the newest of its ${period.unit}`);
      continue;
    }
    seen.add(key);
    if (seen.size <= count) keep.push(`${period.name} ${seen.size} of ${count}`);
    else drop.push(`its ${period.unit} is not among the last ${count} with a backup`);
  }
}

function applySize(
  verdicts: readonly Verdict<RetainedBackup>[],
  last: Verdict<RetainedBackup> | undefined,
  limit: number,
): void {
  const kept = verdicts.filter(({ keep }) => keep.length > 0);
  let total = kept.reduce((sum, { backup }) => sum + backup.sizeBytes, 0);
  const oldestFirst = kept.toReversed();
  const order = [
    ...oldestFirst.filter(({ backup }) => !backup.good),
    ...oldestFirst.filter(({ backup }) => backup.good),
  ];
  for (const verdict of order) {
    if (total <= limit) return;
    if (verdict === last || verdict.backup.held !== undefined) continue;
    total -= verdict.backup.sizeBytes;
    verdict.keep = [];
    verdict.drop = [`beyond the size limit of ${limit} bytes`];
  }
}

function periodRules(
  slots: Pick<RetentionPolicy, 'keepDaily' | 'keepWeekly' | 'keepMonthly' | 'keepYearly'>,
): [Period, number][] {
  const rules: [Period, number | undefined][] = [
    [{ name: 'daily', unit: 'day' }, slots.keepDaily],
    [{ name: 'weekly', unit: 'week' }, slots.keepWeekly],
    [{ name: 'monthly', unit: 'month' }, slots.keepMonthly],
    [{ name: 'yearly', unit: 'year' }, slots.keepYearly],
  ];
  return rules.flatMap(([period, count]): [Period, number][] => (count === undefined ? [] : [[period, count]]));
}

function newestFirst<Backup extends RetainedBackup>(backups: readonly Backup[]): Backup[] {
  return backups.toSorted((one, other) => (isNewer(one, other) ? -1 : isNewer(other, one) ? 1 : 0));
}

function isNewer(one: RetainedBackup, other: RetainedBackup): boolean {
  const difference = one.createdAt.getTime() - other.createdAt.getTime();
  return difference === 0 ? compare(one.id, other.id) > 0 : difference > 0;
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
