/** A machine that dies at any storage operation, before or after it took effect, leaves no backup that cannot be restored. */
import { describe, expect, test } from 'vitest';
import { isCellarError } from '../../src/errors.ts';
import { initRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import { withRetry } from '../../src/storage/decorators/retry.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { type Fault, SimulatedCrash, SimulatedStorage } from '../../src/testing/simulated-storage.ts';
import { backUp, fixedSurroundings, never, noise, readAll, type Streams, whole } from './streams.ts';

const DAY = 86_400_000;
const SMALL = { chunker: { kind: 'fixed-size', size: 4096 }, packTargetBytes: 65536 } as const;
const streams: Streams = { schema: [Buffer.from('CREATE TABLE t();')], t: [noise(130_000, 't'), noise(10_000, 'u')] };
const grown: Streams = { ...streams, t: [...(streams.t ?? []), noise(70_000, 'grown')] };

/** A storage whose clock the repository's follows, so that ULIDs and ages agree. */
function surroundingsOf(storage: SimulatedStorage, seed: string) {
  return { ...fixedSurroundings(seed), clock: () => storage.now().getTime() };
}

async function open(storage: SimulatedStorage, client: Storage, seed: string): Promise<Repository> {
  return await openRepository(
    client,
    { secret: async () => 'secret', surroundings: surroundingsOf(storage, seed) },
    never,
  );
}

async function makeRepository(storage: SimulatedStorage, client: Storage, seed = 'init'): Promise<Repository> {
  const protection = { kind: 'passphrase', passphrase: 'secret', cost: 16 } as const;
  return await initRepository(client, { protection, surroundings: surroundingsOf(storage, seed), ...SMALL }, never);
}

interface Scenario {
  /** What exists before. */
  readonly before: (repository: Repository, storage: SimulatedStorage) => Promise<void>;
  /** What breaks off. */
  readonly act: (repository: Repository) => Promise<unknown>;
  /** Whether all that the storage holds in the end is of use to the next backup. */
  readonly reusable?: true;
}

const scenarios: Readonly<Record<string, Scenario>> = {
  'a first backup': {
    before: async () => {},
    act: async (repository) => await backUp(repository, streams),
    reusable: true,
  },
  'a second backup': {
    before: async (repository) => void (await backUp(repository, streams)),
    act: async (repository) => await backUp(repository, grown),
    reusable: true,
  },
  'a backup that copies condemned packs': {
    async before(repository, storage) {
      const first = await backUp(repository, streams);
      const kept = await backUp(repository, streams);
      await repository.deleteBackup(first.id, never);
      await repository.deleteBackup(kept.id, never);
      storage.advance(8 * DAY);
      await repository.collect({}, never);
      await backUp(repository, { other: [noise(5000, 'other')] }, 'other');
    },
    act: async (repository) => await backUp(repository, grown),
  },
  'deleting a backup': {
    async before(repository) {
      await backUp(repository, streams);
      await backUp(repository, grown);
    },
    act: async (repository) => await repository.deleteBackup('latest', never),
  },
  'marking garbage': {
    async before(repository, storage) {
      await backUp(repository, streams);
      const { id } = await backUp(repository, grown);
      await repository.deleteBackup(id, never);
      storage.advance(8 * DAY);
    },
    act: async (repository) => await repository.collect({}, never),
  },
  'sweeping garbage': {
    async before(repository, storage) {
      await backUp(repository, streams);
      const { id } = await backUp(repository, grown);
      await repository.deleteBackup(id, never);
      storage.advance(8 * DAY);
      await repository.collect({}, never);
      storage.advance(3 * DAY);
    },
    act: async (repository) => await repository.collect({}, never),
  },
  'removing an old tombstone': {
    async before(repository, storage) {
      const { id } = await backUp(repository, streams);
      await repository.deleteBackup(id, never);
      await backUp(repository, { t: [noise(9000, 'new')] });
      for (const days of [8, 3, 40]) {
        storage.advance(days * DAY);
        await repository.collect({}, never);
      }
    },
    act: async (repository) => await repository.collect({}, never),
  },
  'holding a backup': {
    before: async (repository) => void (await backUp(repository, streams)),
    act: async (repository) => await repository.hold('latest', 'keep', never),
  },
  'releasing a backup': {
    async before(repository) {
      await backUp(repository, streams);
      await repository.hold('latest', 'keep', never);
    },
    act: async (repository) => await repository.release('latest', never),
  },
  'a change of passphrase': {
    before: async (repository) => void (await backUp(repository, streams)),
    async act(repository) {
      const [old] = await repository.keys.list(never);
      await repository.keys.add({ kind: 'passphrase', passphrase: 'secret', cost: 16 }, 'new', never);
      await repository.keys.remove(old?.id ?? '', never);
    },
  },
};

/** Runs `act` with a fault planned at operation 1, 2, 3, … until an operation of that number never comes. */
async function atEveryOperation(
  effect: Fault['effect'],
  run: (faults: readonly Fault[], number: number) => Promise<{ readonly operations: number }>,
): Promise<number> {
  let tried = 0;
  for (let number = 1; ; number++) {
    const { operations } = await run([{ at: number, effect }], number);
    if (operations < number) return tried;
    tried++;
  }
}

async function expectSound(storage: SimulatedStorage, expected: readonly Streams[]): Promise<Repository> {
  const repository = await open(storage, storage.client('survivor'), `survivor ${storage.log.length}`);
  for (const listing of await repository.listBackups(never)) {
    expect(listing.state).toBe('readable');
    const contents = await readAll(repository, await repository.findBackup(listing.id, never));
    expect(expected.map(whole)).toContainEqual(contents);
  }
  const { findings, unknown } = await repository.check({ level: 'data' }, never);
  expect(findings).toEqual([]);
  expect(unknown).toEqual([]);
  return repository;
}

const all: readonly Streams[] = [streams, grown, { other: [noise(5000, 'other')] }, { t: [noise(9000, 'new')] }];

describe.each(Object.entries(scenarios))('%s', (_name, { before, act, reusable }) => {
  test.each(['crash-before', 'crash-after'] as const)(
    'leaves everything sound after a %s at any operation',
    async (effect) => {
      const tried = await atEveryOperation(effect, async (faults) => {
        const storage = new SimulatedStorage();
        await before(await makeRepository(storage, storage.client('healthy')), storage);
        // Opened by a client without faults, so that operation 1 is the first of the act.
        const opening = await open(storage, storage.client('victim'), 'victim');
        const faultless = storage.operationsOf('victim');
        expect(faultless).toBeGreaterThan(0);
        const shifted = faults.map((fault) => ({ ...fault, at: Number(fault.at) + faultless }));
        const victim = await open(storage, storage.client('victim', { faults: shifted }), 'victim');
        expect(victim.id).toBe(opening.id);
        const outcome = await Promise.allSettled([act(victim)]);
        const operations = storage.operationsOf('victim') - faultless;
        if (outcome[0].status === 'rejected') expect(outcome[0].reason).toBeInstanceOf(SimulatedCrash);

        const repository = await expectSound(storage, all);
        // Contents at least: a pack's padding, trailer and pages are less than this.
        const uploaded = storage.names('packs/').reduce((sum, name) => sum + storage.bytes(name).length - 24_576, 0);
        const next = await backUp(repository, grown);
        expect(await readAll(repository, next)).toEqual(whole(grown));
        // What was uploaded before the crash is not uploaded again.
        if (reusable) expect(next.stats.newRawBytes).toBeLessThanOrEqual(next.stats.rawBytes - Math.max(0, uploaded));
        await expectSound(storage, all);
        return { operations };
      });
      expect(tried).toBeGreaterThan(1);
    },
  );

  test.each(['fail-before', 'fail-after'] as const)(
    'succeeds in spite of a passing failure (%s) at any operation',
    async (effect) => {
      await atEveryOperation(effect, async (faults) => {
        const storage = new SimulatedStorage();
        await before(await makeRepository(storage, storage.client('healthy')), storage);
        await open(storage, storage.client('worker'), 'worker');
        const faultless = storage.operationsOf('worker');
        const shifted = faults.map((fault) => ({ ...fault, at: Number(fault.at) + faultless }));
        const retrying = withRetry(storage.client('worker', { faults: shifted }), { firstPauseMs: 0 });
        await act(await open(storage, retrying, 'worker'));
        const operations = storage.operationsOf('worker') - faultless;
        await expectSound(storage, all);
        return { operations };
      });
    },
  );
});

describe('making a repository', () => {
  test.each(['crash-before', 'crash-after'] as const)(
    'can be repeated, or is done, after a %s at any operation',
    async (effect) => {
      const tried = await atEveryOperation(effect, async (faults) => {
        const storage = new SimulatedStorage();
        const outcome = await Promise.allSettled([makeRepository(storage, storage.client('victim', { faults }))]);
        if (outcome[0].status === 'rejected') expect(outcome[0].reason).toBeInstanceOf(SimulatedCrash);
        let repository: Repository;
        try {
          repository = await makeRepository(storage, storage.client('second'), 'second');
        } catch (error) {
          expect(isCellarError(error, 'conflict')).toBe(true);
          repository = await open(storage, storage.client('second'), 'second');
        }
        const manifest = await backUp(repository, streams);
        expect(await readAll(repository, manifest)).toEqual(whole(streams));
        return { operations: storage.operationsOf('victim') };
      });
      expect(tried).toBeGreaterThan(2);
    },
  );

  test('refuses a place that holds something else', async () => {
    const storage = new SimulatedStorage();
    await makeRepository(storage, storage.client('first'));
    await expect(makeRepository(storage, storage.client('second'))).rejects.toThrow(/already/);
  });
});

test('a full storage fails the backup with storage-full and loses nothing', async () => {
  const storage = new SimulatedStorage();
  const repository = await makeRepository(storage, storage.client('writer'));
  await backUp(repository, streams);
  const used = storage.names().reduce((sum, name) => sum + storage.bytes(name).length, 0);
  for (const room of [0, 1000, 70_000, 130_000]) {
    storage.capacityBytes = used + room;
    await expect(backUp(repository, { t: [noise(300_000, 'too much')] })).rejects.toMatchObject({
      code: 'storage-full',
    });
  }
  storage.capacityBytes = Number.POSITIVE_INFINITY;
  await expectSound(storage, all);
});
