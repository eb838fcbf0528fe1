/** Long lives of a repository, decided by chance, on a storage whose listings lag behind by up to 23 hours. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isCellarError } from '../../src/errors.ts';
import type { BackupManifest } from '../../src/repository/backup-manifest.ts';
import type { BackupWriter } from '../../src/repository/backup-writer.ts';
import { ALL_STEPS, type CommitSteps } from '../../src/repository/commit.ts';
import { initRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import type { Staleness } from '../../src/testing/simulated-objects.ts';
import { SimulatedStorage } from '../../src/testing/simulated-storage.ts';
import {
  backUp,
  draftOf,
  fixedSurroundings,
  never,
  noise,
  readAll,
  type Streams,
  storeStreams,
  whole,
} from './streams.ts';

const HOUR = 3_600_000;
const SMALL = { chunker: { kind: 'fixed-size', size: 1024 }, packTargetBytes: 16384 } as const;

type Step =
  | { readonly do: 'back up'; readonly database: string; readonly pieces: readonly number[] }
  /** A long backup: it looks at what is there, and commits much later. */
  | { readonly do: 'begin'; readonly database: string; readonly pieces: readonly number[] }
  | { readonly do: 'finish' }
  | { readonly do: 'break off'; readonly database: string; readonly pieces: readonly number[]; readonly at: number }
  | { readonly do: 'delete'; readonly which: number }
  | { readonly do: 'collect' }
  /** Time for the collector to condemn what is garbage, and to delete it. */
  | { readonly do: 'collect for weeks' }
  | { readonly do: 'wait'; readonly hours: number };

const pieces = fc.array(fc.nat(9), { minLength: 1, maxLength: 12 });
const database = fc.constantFrom('shop', 'brewery');
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('back up' as const), database, pieces }),
  fc.record({ do: fc.constant('begin' as const), database, pieces }),
  fc.record({ do: fc.constant('finish' as const) }),
  fc.record({ do: fc.constant('collect for weeks' as const) }),
  fc.record({ do: fc.constant('break off' as const), database, pieces, at: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ do: fc.constant('delete' as const), which: fc.nat() }),
  fc.record({ do: fc.constant('collect' as const) }),
  fc.record({ do: fc.constant('wait' as const), hours: fc.constantFrom(1, 5, 24, 50, 8 * 24, 31 * 24) }),
);
const staleness: fc.Arbitrary<Staleness> = fc.record({
  windowMs: fc.integer({ min: 0, max: 23 * HOUR }),
  pick: fc.constantFrom('worst' as const, 'random' as const),
  what: fc.constant('listings' as const),
});

/** Pieces of 1,500 bytes out of ten: backups share some, in changing order and packs. */
const streamsOf = (numbers: readonly number[]): Streams => ({
  t: [Buffer.concat(numbers.map((number) => noise(2048, `piece ${number}`)))],
});

/** What a life consists of while it goes on. */
interface Life {
  readonly storage: SimulatedStorage;
  readonly repository: Repository;
  readonly surroundings: ReturnType<typeof fixedSurroundings>;
  /** What must be readable, by backup. */
  readonly expected: Map<string, Streams>;
  readonly begun: { readonly writer: BackupWriter; readonly streams: Streams }[];
}

/** Lives a repository's life and looks whether every listed backup can be read in the end. */
async function live(steps: readonly Step[], stale: Staleness, seed: number, commitSteps: CommitSteps): Promise<void> {
  const storage = new SimulatedStorage({ seed });
  const surroundings = { ...fixedSurroundings(`history ${seed}`), clock: () => storage.now().getTime() };
  const options = { protection: { kind: 'none' }, surroundings, commitSteps, ...SMALL } as const;
  const repository = await initRepository(storage.client('client'), options, never);
  const expected = new Map<string, Streams>();
  storage.advance(24 * HOUR);
  storage.staleness = stale;
  const life: Life = { storage, repository, surroundings, expected, begun: [] };
  for (const action of steps) await act(life, action);

  storage.staleness = undefined;
  const listed = await repository.listBackups(never);
  expect(new Set(listed.map(({ id }) => id))).toEqual(new Set(expected.keys()));
  for (const [id, streams] of expected) {
    expect(await readAll(repository, await repository.findBackup(id, never))).toEqual(whole(streams));
  }
  expect((await repository.check({ level: 'data' }, never)).findings).toEqual([]);
}

const steps = fc.array(step, { minLength: 5, maxLength: 30 });

test('every listed backup is readable after any history', { timeout: 180_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(steps, staleness, fc.nat(), (some, stale, seed) => live(some, stale, seed, ALL_STEPS)),
    { numRuns: 200 },
  );
});

test('such histories lose a backup when a commit trusts what it knew at its start', { timeout: 180_000 }, async () => {
  const trusting: CommitSteps = { condemned: async () => new Set(), confirm: async () => {} };
  await expect(
    fc.assert(
      fc.asyncProperty(steps, staleness, fc.nat(), (some, stale, seed) => live(some, stale, seed, trusting)),
      { numRuns: 2000, endOnFailure: true },
    ),
  ).rejects.toThrow();
});

async function act(life: Life, action: Step): Promise<void> {
  const { storage, repository, surroundings, expected, begun } = life;
  switch (action.do) {
    case 'back up': {
      const streams = streamsOf(action.pieces);
      await committed(expected, streams, () => backUp(repository, streams, action.database));
      return;
    }
    case 'begin': {
      const writer = await repository.beginBackup({ database: action.database }, never);
      const streams = streamsOf(action.pieces);
      await storeStreams(repository, writer, streams);
      begun.push({ writer, streams });
      return;
    }
    case 'finish': {
      const oldest = begun.shift();
      if (oldest === undefined) return;
      const { writer, streams } = oldest;
      await committed(expected, streams, () => writer.commit(draftOf(streams), never));
      return;
    }
    case 'collect for weeks':
      for (const hours of [8 * 24, 80]) {
        await act(life, { do: 'wait', hours });
        await act(life, { do: 'collect' });
      }
      return;
    case 'break off': {
      const truth = storage.staleness;
      storage.staleness = undefined;
      await openRepository(storage.client('victim'), { secret: async () => '', surroundings }, never);
      const opening = storage.operationsOf('victim');
      const faults = [{ at: opening + action.at, effect: 'crash-after' as const }];
      const victim = await openRepository(
        storage.client('victim', { faults }),
        { secret: async () => '', surroundings },
        never,
      );
      storage.staleness = truth;
      const before = new Set(storage.names('backups/'));
      await Promise.allSettled([backUp(victim, streamsOf(action.pieces), action.database)]);
      // It may have come as far as its manifest.
      for (const name of storage.names('backups/')) {
        if (!before.has(name)) expected.set(name.split('/')[2] ?? '', streamsOf(action.pieces));
      }
      return;
    }
    case 'delete': {
      const ids = [...expected.keys()];
      const id = ids[action.which % Math.max(1, ids.length)];
      if (id === undefined) return;
      try {
        await repository.deleteBackup(id, never);
        expected.delete(id);
      } catch (error) {
        // A listing that lags behind does not show it yet.
        if (!isCellarError(error, 'not-found')) throw error;
      }
      return;
    }
    case 'collect':
      try {
        await repository.collect({}, never);
      } catch (error) {
        // It saw a manifest listed that is deleted: it stops rather than guess.
        if (!isCellarError(error, 'storage-failed')) throw error;
      }
      return;
    case 'wait':
      storage.advance(action.hours * HOUR);
  }
}

async function committed(
  expected: Map<string, Streams>,
  streams: Streams,
  commit: () => Promise<BackupManifest>,
): Promise<void> {
  try {
    expected.set((await commit()).id, streams);
  } catch (error) {
    // It met a pack that was collected: no backup, and the next one works.
    if (!isCellarError(error, 'conflict')) throw error;
  }
}
