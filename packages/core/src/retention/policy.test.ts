import { describe, expect, test } from 'vitest';
import { decideRetention, type RetainedBackup, type RetentionPolicy } from './policy.ts';

const NOW = new Date('2024-11-08T12:00:00Z');
const DAY = 24 * 60 * 60 * 1000;

function backup(createdAt: string, more: Partial<RetainedBackup> = {}): RetainedBackup {
  return { id: createdAt, database: 'shop', createdAt: new Date(createdAt), sizeBytes: 100, good: true, ...more };
}

function daily(count: number, more: Partial<RetainedBackup> = {}): RetainedBackup[] {
  return Array.from({ length: count }, (_, i) => backup(new Date(NOW.getTime() - i * DAY).toISOString(), more));
}

/** `id: action (reasons)` of each, newest first, ids cut to the day where they are times. */
function decided(backups: readonly RetainedBackup[], policy: RetentionPolicy, timeZone = 'UTC', now = NOW): string[] {
  return decideRetention(backups, policy, now, timeZone).map(
    ({ backup: { id }, action, reasons }) => `${id.slice(0, 10)}: ${action} (${reasons.join(', ')})`,
  );
}

function kept(backups: readonly RetainedBackup[], policy: RetentionPolicy, timeZone = 'UTC', now = NOW): string[] {
  return decideRetention(backups, policy, now, timeZone).flatMap(({ backup: { id }, action }) =>
    action === 'keep' ? [id] : [],
  );
}

describe('rules', () => {
  test('a policy without rules keeps everything, failed ones too', () => {
    expect(decided([...daily(2), backup('2001-01-01T00:00:00Z', { good: false })], {})).toEqual([
      '2024-11-08: keep (newest good backup)',
      '2024-11-07: keep (the policy has no rules)',
      '2001-01-01: keep (the policy has no rules)',
    ]);
  });

  test('age keeps what is not older, to the instant', () => {
    const backups = ['2024-11-08T00:00:00Z', '2024-11-05T12:00:00.000Z', '2024-11-05T11:59:59.999Z'].map((at) =>
      backup(at),
    );
    expect(decided(backups, { keepDays: 3 })).toEqual([
      '2024-11-08: keep (newest good backup, not older than 3 days)',
      '2024-11-05: keep (not older than 3 days)',
      '2024-11-05: delete (older than 3 days)',
    ]);
  });

  test('a backup from the future, by a wrong clock, is not old', () => {
    expect(kept([backup('2025-01-01T00:00:00Z'), backup('2024-12-01T00:00:00Z')], { keepDays: 1 })).toHaveLength(2);
  });

  test('a backup from the future stands in for none of today: it stays, and the newest others are kept as without it', () => {
    expect(decided([backup('2099-01-01T00:00:00Z'), ...daily(3)], { keepLast: 1 })).toEqual([
      '2099-01-01: keep (dated in the future)',
      '2024-11-08: keep (newest good backup, last 1 of 1)',
      '2024-11-07: delete (not among the last 1)',
      '2024-11-06: delete (not among the last 1)',
    ]);
  });

  test('clocks that differ by some hours make no future', () => {
    expect(decided([backup('2024-11-09T06:00:00Z'), ...daily(1)], { keepLast: 1 })).toEqual([
      '2024-11-09: keep (newest good backup, last 1 of 1)',
      '2024-11-08: delete (not among the last 1)',
    ]);
  });

  test('a backup of a part of a database stands in for none of the whole, nor the other way round', () => {
    const parts = ['2024-11-08T13:00:00Z', '2024-11-08T14:00:00Z'].map((at) =>
      backup(at, { part: 'definitions only' }),
    );
    expect(decided([...parts, ...daily(2)], { keepLast: 1 })).toEqual([
      '2024-11-08: keep (newest good backup, last 1 of 1)',
      '2024-11-07: delete (not among the last 1)',
      '2024-11-08: keep (newest good backup, last 1 of 1)',
      '2024-11-08: delete (not among the last 1)',
    ]);
  });

  test('the last so many are kept', () => {
    expect(decided(daily(4), { keepLast: 2 })).toEqual([
      '2024-11-08: keep (newest good backup, last 1 of 2)',
      '2024-11-07: keep (last 2 of 2)',
      '2024-11-06: delete (not among the last 2)',
      '2024-11-05: delete (not among the last 2)',
    ]);
  });

  test('the newest backup of each period fills its slot, and periods without a backup take none', () => {
    const backups = [
      '2024-11-08T09:00:00Z',
      '2024-11-08T03:00:00Z',
      '2024-11-01T23:00:00Z',
      '2024-11-01T01:00:00Z',
      '2024-09-09T00:00:00Z',
    ];
    expect(
      decided(
        backups.map((at) => backup(at)),
        { keepDaily: 2 },
      ),
    ).toEqual([
      '2024-11-08: keep (newest good backup, daily 1 of 2)',
      '2024-11-08: delete (not the newest of its day)',
      '2024-11-01: keep (daily 2 of 2)',
      '2024-11-01: delete (not the newest of its day)',
      '2024-09-09: delete (its day is not among the last 2 with a backup)',
    ]);
  });

  test('grandfather, father and son together keep the union, each with all its reasons', () => {
    const decisions = decided(daily(800), { keepDaily: 7, keepWeekly: 4, keepMonthly: 12, keepYearly: 3 });
    const kept = decisions.filter((line) => line.includes(': keep'));
    expect(kept[0]).toBe(
      '2024-11-08: keep (newest good backup, daily 1 of 7, weekly 1 of 4, monthly 1 of 12, yearly 1 of 3)',
    );
    expect(kept.slice(1)).toEqual([
      '2024-11-07: keep (daily 2 of 7)',
      '2024-11-06: keep (daily 3 of 7)',
      '2024-11-05: keep (daily 4 of 7)',
      '2024-11-04: keep (daily 5 of 7)',
      '2024-11-03: keep (daily 6 of 7, weekly 2 of 4)',
      '2024-11-02: keep (daily 7 of 7)',
      '2024-10-31: keep (monthly 2 of 12)',
      '2024-10-27: keep (weekly 3 of 4)',
      '2024-10-20: keep (weekly 4 of 4)',
      '2024-09-30: keep (monthly 3 of 12)',
      '2024-08-31: keep (monthly 4 of 12)',
      '2024-07-31: keep (monthly 5 of 12)',
      '2024-06-30: keep (monthly 6 of 12)',
      '2024-05-31: keep (monthly 7 of 12)',
      '2024-04-30: keep (monthly 8 of 12)',
      '2024-03-31: keep (monthly 9 of 12)',
      '2024-02-29: keep (monthly 10 of 12)',
      '2024-01-31: keep (monthly 11 of 12)',
      '2023-12-31: keep (monthly 12 of 12, yearly 2 of 3)',
      '2022-12-31: keep (yearly 3 of 3)',
    ]);
  });

  test('each database is decided by itself', () => {
    const backups = [...daily(3), ...daily(3, { database: 'bar' })];
    const decisions = decideRetention(backups, { keepLast: 1 }, NOW, 'UTC');
    expect(decisions.map(({ backup: { database }, action }) => `${database} ${action}`)).toEqual([
      'bar keep',
      'bar delete',
      'bar delete',
      'shop keep',
      'shop delete',
      'shop delete',
    ]);
  });
});

describe('promises above all rules', () => {
  test('the newest good backup stays, however old', () => {
    expect(decided([backup('2001-01-01T00:00:00Z'), backup('2000-01-01T00:00:00Z')], { keepDays: 1 })).toEqual([
      '2001-01-01: keep (newest good backup)',
      '2000-01-01: delete (older than 1 day)',
    ]);
  });

  test('a held backup stays, with the reason that was given, good or failed', () => {
    const backups = [
      ...daily(1),
      backup('2001-01-01T00:00:00Z', { held: 'tax audit' }),
      backup('2000-01-01T00:00:00Z', { held: 'look at it', good: false }),
    ];
    expect(decided(backups, { keepLast: 1, maxTotalBytes: 1 }).slice(1)).toEqual([
      '2001-01-01: keep (held: tax audit)',
      '2000-01-01: keep (held: look at it)',
    ]);
  });
});

describe('failed backups', () => {
  test('they fill no slot of any rule', () => {
    const failed = daily(3).map((one) => ({
      ...one,
      id: `${one.id} failed`,
      createdAt: new Date(one.createdAt.getTime() + 1),
      good: false,
    }));
    const good = daily(5);
    const all = [...failed, ...good];
    for (const policy of [
      { keepLast: 2 },
      { keepDaily: 2 },
      { keepWeekly: 2 },
      { keepMonthly: 1, keepYearly: 1 },
      { keepDays: 1 },
    ]) {
      const keptGood = kept(all, policy).filter((id) => !id.endsWith('failed'));
      expect(keptGood).toEqual(kept(good, policy));
    }
  });

  test('they stay by age, among the last good ones, and as the newest there is; and say so', () => {
    const backups = [
      backup('2024-11-08T11:00:00Z', { good: false }),
      backup('2024-11-07T11:00:00Z'),
      backup('2024-11-06T11:00:00Z', { good: false }),
      backup('2024-11-05T11:00:00Z'),
      backup('2024-11-04T11:00:00Z', { good: false }),
    ];
    expect(decided(backups, { keepLast: 2 })).toEqual([
      '2024-11-08: keep (failed, newer than the oldest of the last 2, failed, but nothing newer exists)',
      '2024-11-07: keep (newest good backup, last 1 of 2)',
      '2024-11-06: keep (failed, newer than the oldest of the last 2)',
      '2024-11-05: keep (last 2 of 2)',
      '2024-11-04: delete (failed)',
    ]);
    expect(decided(backups, { keepDaily: 1 })).toEqual([
      '2024-11-08: keep (failed, but nothing newer exists)',
      '2024-11-07: keep (newest good backup, daily 1 of 1)',
      '2024-11-06: delete (failed)',
      '2024-11-05: delete (its day is not among the last 1 with a backup)',
      '2024-11-04: delete (failed)',
    ]);
    expect(decided(backups, { keepDays: 3 }).filter((line) => line.includes('failed'))).toEqual([
      '2024-11-08: keep (failed, not older than 3 days, failed, but nothing newer exists)',
      '2024-11-06: keep (failed, not older than 3 days)',
      '2024-11-04: delete (older than 3 days, failed)',
    ]);
  });
});

describe('size', () => {
  test('beyond the limit the oldest go, whatever other rules say', () => {
    expect(decided(daily(5), { keepLast: 4, maxTotalBytes: 250 })).toEqual([
      '2024-11-08: keep (newest good backup, last 1 of 4)',
      '2024-11-07: keep (last 2 of 4)',
      '2024-11-06: delete (beyond the size limit of 250 bytes)',
      '2024-11-05: delete (beyond the size limit of 250 bytes)',
      '2024-11-04: delete (not among the last 4)',
    ]);
  });

  test('alone, it keeps what fits', () => {
    expect(decided(daily(3), { maxTotalBytes: 200 })).toEqual([
      '2024-11-08: keep (newest good backup)',
      '2024-11-07: keep (within the size limit)',
      '2024-11-06: delete (beyond the size limit of 200 bytes)',
    ]);
    expect(kept(daily(3), { maxTotalBytes: 300 })).toHaveLength(3);
  });

  test('the newest good and held ones stay even when they alone are too large, and count', () => {
    const backups = [...daily(3), backup('2001-01-01T00:00:00Z', { held: 'why', sizeBytes: 1000 })];
    expect(kept(backups, { maxTotalBytes: 1050 }).map((id) => id.slice(0, 4))).toEqual(['2024', '2001']);
  });

  test('failed ones go before good ones, but not the only one there is', () => {
    const failed = backup('2024-11-08T13:00:00Z', { good: false });
    expect(kept([failed, ...daily(2)], { maxTotalBytes: 200 })).toEqual(daily(2).map(({ id }) => id));
    expect(kept([failed, backup('2024-01-01T00:00:00Z', { good: false })], { maxTotalBytes: 1 })).toEqual([failed.id]);
  });
});

describe('time zones', () => {
  test('days begin at midnight of the person, not of UTC', () => {
    const backups = [backup('2024-11-07T23:30:00Z'), backup('2024-11-07T22:30:00Z')];
    expect(kept(backups, { keepDaily: 5 }, 'UTC')).toHaveLength(1);
    expect(kept(backups, { keepDaily: 5 }, 'Europe/Berlin')).toHaveLength(2);
    expect(kept(backups, { keepDaily: 5 }, 'Asia/Kolkata')).toHaveLength(1);
  });

  test('the day on which clocks change has 23 or 25 hours and is one day', () => {
    const short = [backup('2024-03-30T23:00:00Z'), backup('2024-03-31T21:59:59Z'), backup('2024-03-31T22:00:00Z')];
    expect(kept(short, { keepDaily: 5 }, 'Europe/Berlin')).toEqual([short[2]?.id, short[1]?.id]);
    const long = [backup('2024-10-26T22:00:00Z'), backup('2024-10-27T22:59:59Z'), backup('2024-10-27T23:00:00Z')];
    expect(kept(long, { keepDaily: 5 }, 'Europe/Berlin')).toEqual([long[2]?.id, long[1]?.id]);
  });

  test('age counts calendar days across a change of the clocks', () => {
    // Noon to noon in Berlin over the night of 2024-10-27: 25 hours.
    const now = new Date('2024-10-27T11:00:00Z');
    const backups = [backup('2024-10-27T10:00:00Z'), backup('2024-10-26T10:00:00Z'), backup('2024-10-26T09:59:59Z')];
    expect(kept(backups, { keepDays: 1 }, 'Europe/Berlin', now)).toHaveLength(2);
    expect(kept(backups, { keepDays: 1 }, 'UTC', now)).toHaveLength(1);
  });

  test('weeks are ISO weeks, also around New Year', () => {
    // 2024-12-30 (Monday) to 2025-01-05 are week 1 of 2025; 2026-12-28 to 2027-01-03 are week 53 of 2026.
    const one = ['2025-01-05T12:00:00Z', '2024-12-30T00:00:00Z', '2024-12-29T23:59:59Z'].map((at) => backup(at));
    expect(kept(one, { keepWeekly: 9 }, 'UTC', new Date('2025-01-06T00:00:00Z'))).toEqual([one[0]?.id, one[2]?.id]);
    const other = ['2027-01-04T00:00:00Z', '2027-01-03T12:00:00Z', '2026-12-28T00:00:00Z'].map((at) => backup(at));
    expect(kept(other, { keepWeekly: 9 }, 'UTC', new Date('2027-01-05T00:00:00Z'))).toEqual([
      other[0]?.id,
      other[1]?.id,
    ]);
  });
});
