/** What holds for every list of backups and every policy. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePolicy } from './parse-policy.ts';
import { decideRetention, type RetainedBackup, type RetentionPolicy } from './policy.ts';

const NOW = new Date('2024-11-08T12:00:00Z');

const backups: fc.Arbitrary<RetainedBackup[]> = fc.uniqueArray(
  fc.record(
    {
      id: fc.string({ minLength: 1, maxLength: 4 }),
      database: fc.constantFrom('shop', 'bar', 'brewery'),
      createdAt: fc
        .oneof(fc.integer({ min: 0, max: 60 * 24 }), fc.integer({ min: 0, max: 900 * 24 }))
        .map((hours) => new Date(NOW.getTime() - hours * 3_600_000)),
      sizeBytes: fc.integer({ min: 0, max: 1000 }),
      good: fc.boolean(),
      held: fc.constantFrom('audit', 'release 2'),
    },
    { requiredKeys: ['id', 'database', 'createdAt', 'sizeBytes', 'good'] },
  ),
  { selector: ({ id }) => id, maxLength: 40 },
);

const rule = fc.integer({ min: 1, max: 20 });
const counts: fc.Arbitrary<RetentionPolicy> = fc
  .record(
    { keepDays: rule, keepLast: rule, keepDaily: rule, keepWeekly: rule, keepMonthly: rule, keepYearly: rule },
    { requiredKeys: [] },
  )
  .map(parsePolicy);
const policies: fc.Arbitrary<RetentionPolicy> = fc
  .tuple(counts, fc.option(fc.integer({ min: 1, max: 20_000 }), { nil: undefined }))
  .map(([policy, maxTotalBytes]) => parsePolicy({ ...policy, maxTotalBytes }));
const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Pacific/Kiritimati', 'Australia/Lord_Howe');

function kept(all: readonly RetainedBackup[], policy: RetentionPolicy, zone: string): RetainedBackup[] {
  return decideRetention(all, policy, NOW, zone).flatMap(({ backup, action }) => (action === 'keep' ? [backup] : []));
}

const ids = (all: readonly RetainedBackup[]): Set<string> => new Set(all.map(({ id }) => id));

function holds(check: (all: RetainedBackup[], policy: RetentionPolicy, zone: string) => void): void {
  fc.assert(fc.property(backups, policies, zones, check), { numRuns: 400 });
}

describe('whatever the backups and the policy', () => {
  test('each backup is decided once, with a reason', () => {
    holds((all, policy, zone) => {
      const decisions = decideRetention(all, policy, NOW, zone);
      expect(decisions).toHaveLength(all.length);
      expect(ids(decisions.map(({ backup }) => backup))).toEqual(ids(all));
      for (const { reasons } of decisions) {
        expect(reasons.length).toBeGreaterThan(0);
        expect(new Set(reasons).size).toBe(reasons.length);
      }
    });
  });

  test('the newest good backup of each database and every held one stay', () => {
    holds((all, policy, zone) => {
      const left = kept(all, policy, zone);
      for (const { id, held } of all) if (held !== undefined) expect(ids(left)).toContain(id);
      for (const [, ofDatabase] of Map.groupBy(all, ({ database }) => database)) {
        const newest = Math.max(...ofDatabase.filter(({ good }) => good).map(({ createdAt }) => createdAt.getTime()));
        if (newest === -Infinity) continue;
        expect(
          left.some(
            ({ database, good, createdAt }) =>
              database === ofDatabase[0]?.database && good && createdAt.getTime() === newest,
          ),
        ).toBe(true);
      }
    });
  });

  test('no database that has backups is left without any', () => {
    holds((all, policy, zone) => {
      const left = kept(all, policy, zone);
      expect(new Set(left.map(({ database }) => database))).toEqual(new Set(all.map(({ database }) => database)));
    });
  });

  test('deciding again about what was kept deletes nothing', () => {
    holds((all, policy, zone) => {
      const left = kept(all, policy, zone);
      expect(ids(kept(left, policy, zone))).toEqual(ids(left));
    });
  });

  test('the order of the list does not matter', () => {
    fc.assert(
      fc.property(
        backups.chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length }))),
        policies,
        zones,
        ([all, shuffled], policy, zone) => {
          expect(decideRetention(shuffled, policy, NOW, zone)).toEqual(decideRetention(all, policy, NOW, zone));
        },
      ),
      { numRuns: 300 },
    );
  });

  test('other databases do not matter', () => {
    holds((all, policy, zone) => {
      const mine = all.filter(({ database }) => database === 'shop');
      expect(decideRetention(mine, policy, NOW, zone)).toEqual(
        decideRetention(all, policy, NOW, zone).filter(({ backup }) => backup.database === 'shop'),
      );
    });
  });

  test('a larger number in a rule of age or count keeps all that the smaller one kept', () => {
    fc.assert(
      fc.property(backups, counts, counts, zones, (all, policy, more, zone) => {
        const looser = parsePolicy(
          Object.fromEntries(
            Object.entries(policy).map(([name, count]) => [
              name,
              count + (Object.entries(more).find(([other]) => other === name)?.[1] ?? 0),
            ]),
          ),
        );
        expect(ids(kept(all, looser, zone))).toEqual(ids(kept(all, looser, zone)).union(ids(kept(all, policy, zone))));
      }),
      { numRuns: 400 },
    );
  });

  test('one more rule of age or count keeps all that was kept without it', () => {
    fc.assert(
      fc.property(backups, counts, counts, zones, (all, policy, more, zone) => {
        // A policy without rules keeps everything: there adding the first rule is the one thing that deletes.
        fc.pre(Object.keys(policy).length > 0);
        const both = { ...more, ...policy };
        expect(ids(kept(all, both, zone))).toEqual(ids(kept(all, both, zone)).union(ids(kept(all, policy, zone))));
      }),
      { numRuns: 400 },
    );
  });

  test('within a size limit only what is promised exceeds it', () => {
    holds((all, policy, zone) => {
      const limit = policy.maxTotalBytes;
      if (limit === undefined) return;
      for (const [, left] of Map.groupBy(kept(all, policy, zone), ({ database }) => database)) {
        const total = left.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        const free = left.filter(({ held }) => held === undefined);
        if (total > limit) expect(free.length).toBeLessThanOrEqual(1);
      }
    });
  });

  test('failed backups change nothing for good ones, as long as size has no say', () => {
    fc.assert(
      fc.property(backups, counts, zones, (all, policy, zone) => {
        const good = all.filter((one) => one.good);
        expect(ids(kept(all, policy, zone).filter((one) => one.good))).toEqual(ids(kept(good, policy, zone)));
      }),
      { numRuns: 300 },
    );
  });
});
