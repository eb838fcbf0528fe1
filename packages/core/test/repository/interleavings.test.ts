/**
 * Two writers and a garbage collector on one storage, in every order of their operations, with the waiting times modelled by the
 * storage's clock. The only order left out is the one that time forbids: a manifest's creation, begun within the hour, lasting two days.
 */
import { describe, expect, test } from 'vitest';
import { isCellarError } from '../../src/errors.ts';
import { type Collector, mark, sweep } from '../../src/repository/collect.ts';
import { ALL_STEPS, type CommitSteps } from '../../src/repository/commit.ts';
import { deriveSubkeys, type Subkeys } from '../../src/repository/crypto.ts';
import { initRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import { parseObjectName, type Storage } from '../../src/storage/storage.ts';
import { SimulatedStorage } from '../../src/testing/simulated-storage.ts';
import { explore, observed, type Snapshot, snapshotOf, type World } from './exploration.ts';
import { backUp, fixedSurroundings, never, noise, readAll, type Streams, whole } from './streams.ts';

const HOUR = 3_600_000;
/** Every pack is old enough to be condemned at once; the rest as in real life. */
const TIMES = { packAgeMs: 0, sweepAfterMs: 48 * HOUR, tombstoneMs: 100 * HOUR };
const START = new Date('2024-11-08T12:00:00Z');
const CHUNKS = { chunker: { kind: 'fixed-size', size: 1024 }, packTargetBytes: 65536 } as const;

/** Two writers have some millions of orders: all of them are tried when this is set, else those with few interruptions. */
const EXHAUSTIVE = process.env.CELLAR_EXHAUSTIVE === '1';
const SHARED = noise(3000, 'shared');
const streamsOf = (writer: string): Streams => ({ t: [Buffer.concat([SHARED, noise(1000, writer)])] });

interface Base {
  readonly snapshot: Snapshot;
  readonly subkeys: Subkeys;
  /** The manifest that the collector's first step deletes, where there is one. */
  readonly doomed: string | undefined;
}

/** A repository with one backup (that will be deleted), or with what an interrupted run left. */
async function makeBase(kind: 'backup' | 'interrupted run'): Promise<Base> {
  const storage = new SimulatedStorage({ start: START });
  const surroundings = fixedSurroundings('base', START.getTime() - 10 * HOUR);
  const drawn: Buffer[] = [];
  const recording = {
    ...surroundings,
    random(length: number) {
      const bytes = surroundings.random(length);
      drawn.push(bytes);
      return bytes;
    },
  };
  const options = { protection: { kind: 'none' }, surroundings: recording, ...CHUNKS } as const;
  const repository = await initRepository(storage.client('base'), options, never);
  const [masterKey] = drawn;
  if (masterKey === undefined) throw new Error('no master key was drawn');
  if (kind === 'backup') {
    await backUp(repository, streamsOf('base'));
  } else {
    const dying = storage.client('dying', {
      faults: [{ at: ({ name }) => name.startsWith('backups/') && name.length > 20, effect: 'crash-before' }],
    });
    const interrupted = await openRepository(dying, { secret: async () => '', surroundings: recording }, never);
    await expect(backUp(interrupted, streamsOf('base'))).rejects.toThrow(/Simulated crash/);
  }
  return { snapshot: snapshotOf(storage), subkeys: deriveSubkeys(masterKey), doomed: storage.names('backups/')[0] };
}

interface Options {
  readonly writers: readonly string[];
  readonly steps?: CommitSteps;
  readonly listingFreshMs?: number;
}

async function build(
  { snapshot, subkeys, doomed }: Base,
  { writers, steps = ALL_STEPS, listingFreshMs = HOUR }: Options,
): Promise<World> {
  const storage = new SimulatedStorage({ start: START });
  for (const [name, bytes] of snapshot) storage.create(name, bytes);
  const observations = new Map<string, string>();
  const connect = (client: string): Storage =>
    observed(storage.client(client), client, observations, client === 'collector');
  // A client's time is the storage's: it passes only where the collector waits.
  const surroundingsOf = (client: string) => ({ ...fixedSurroundings(client), clock: () => storage.now().getTime() });
  const open = async (client: string): Promise<Repository> =>
    await openRepository(
      connect(client),
      { secret: async () => '', surroundings: surroundingsOf(client), commitSteps: steps, listingFreshMs },
      never,
    );

  const tasks: Record<string, () => Promise<unknown>> = {};
  for (const writer of writers) {
    const repository = await open(writer);
    tasks[writer] = () => backUp(repository, streamsOf(writer));
  }
  const collector: Collector = { storage: connect('collector'), subkeys, surroundings: surroundingsOf('collector') };
  tasks.collector = async () => {
    if (doomed !== undefined) await collector.storage.delete(parseObjectName(doomed), { signal: never });
    await mark(collector, TIMES, false, () => {}, never);
    await wait(collector.storage, storage, TIMES.sweepAfterMs);
    await sweep(collector, TIMES, false, () => {}, never);
    await wait(collector.storage, storage, TIMES.tombstoneMs);
    await sweep(collector, TIMES, false, () => {}, never);
  };
  for (const client of Object.keys(tasks)) observations.set(client, '');

  return {
    storage,
    tasks,
    observations,
    enabled: ({ name }, waiting) =>
      name !== 'tick' || !waiting.some((other) => other.kind === 'put' && other.name.startsWith('backups/')),
    // Time passes and objects are deleted at the collector's hands only, and what is read is never rewritten.
    independent: ({ client, kind }) => client === 'collector' && (kind === 'now' || kind === 'get'),
    async check({ order, outcomes }) {
      for (const [client, outcome] of Object.entries(outcomes)) {
        if (outcome.status === 'fulfilled' || isCellarError(outcome.reason, 'conflict')) continue;
        throw new Error(`${client} failed`, { cause: outcome.reason });
      }
      const repository = await openRepository(storage.client('reader'), { secret: async () => '' }, never);
      for (const listing of await repository.listBackups(never)) {
        try {
          const writer = writers.find(
            (name) => outcomes[name]?.status === 'fulfilled' && isOf(outcomes[name], listing.id),
          );
          const contents = await readAll(repository, await repository.findBackup(listing.id, never));
          if (writer !== undefined) expect(contents).toEqual(whole(streamsOf(writer)));
        } catch (cause) {
          throw new Loss(`backup ${listing.id} is listed and cannot be read, after ${order.join(' ')}`, cause);
        }
      }
    },
  };
}

class Loss extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'Loss';
  }
}

function isOf(outcome: PromiseSettledResult<unknown> | undefined, id: string): boolean {
  return outcome?.status === 'fulfilled' && (outcome.value as { id?: unknown }).id === id;
}

/** The collector's pause: an operation of its own, so that the others' may fall before or after it. */
async function wait(storage: Storage, simulated: SimulatedStorage, ms: number): Promise<void> {
  try {
    await storage.stat(parseObjectName('tick'), { signal: never });
  } catch (error) {
    if (!isCellarError(error, 'not-found')) throw error;
  }
  simulated.advance(ms);
}

const bases = ['backup', 'interrupted run'] as const;

describe.each(bases)('reusing the chunks of a %s that is being collected', (kind) => {
  test('loses nothing in any order of one writer and a collector', { timeout: 180_000 }, async () => {
    const base = await makeBase(kind);
    const { states, ends } = await explore(() => build(base, { writers: ['writer'] }));
    expect(states).toBeGreaterThan(2000);
    expect(ends).toBeGreaterThan(200);
  });

  test.each([
    ['the confirmation that every pack exists', { ...ALL_STEPS, confirm: async () => {} }, HOUR],
    ['the second listing of condemned packs', { ...ALL_STEPS, condemned: async () => new Set<string>() }, HOUR],
    ['the repeat after an hour', ALL_STEPS, Number.MAX_SAFE_INTEGER],
  ])('would lose a backup without %s', async (_what, steps, listingFreshMs) => {
    const base = await makeBase(kind);
    await expect(explore(() => build(base, { writers: ['writer'], steps, listingFreshMs }))).rejects.toThrow(Loss);
  });
});

describe.each(bases)('two writers and a collector, reusing the chunks of a %s and of each other', (kind) => {
  test(
    `lose nothing in any order${EXHAUSTIVE ? '' : ' with two interruptions'}`,
    async () => {
      const base = await makeBase(kind);
      const world = () => build(base, { writers: ['writer-1', 'writer-2'] });
      const { states, ends } = await explore(world, EXHAUSTIVE ? {} : { interruptions: 2 });
      expect(states).toBeGreaterThan(5000);
      expect(ends).toBeGreaterThan(500);
    },
    EXHAUSTIVE ? 24 * HOUR : 180_000,
  );
});
