/** Whatever happens to stored bytes: nobody gets wrong or fewer bytes without an error, and verification names the object and what it harms. */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { CellarError, isCellarError } from '../../src/errors.ts';
import { initRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import type { ObjectName } from '../../src/storage/storage.ts';
import { SimulatedStorage } from '../../src/testing/simulated-storage.ts';
import type { Snapshot } from './exploration.ts';
import { snapshotOf } from './exploration.ts';
import { backUp, fixedSurroundings, never, noise, readAll, rows, type Streams, whole } from './streams.ts';

const SMALL = {
  chunker: { kind: 'content-defined', minSize: 64, averageSize: 256, maxSize: 1024 },
  packTargetBytes: 32768,
} as const;
const day1: Streams = { schema: [Buffer.from('CREATE TABLE t();')], t: [noise(40_000, 't')], u: [rows(50)] };
const day2: Streams = { ...day1, t: [...(day1.t ?? []), noise(3000, 'more')] };

let snapshot: Snapshot;
let ids: readonly string[];

beforeAll(async () => {
  const storage = new SimulatedStorage();
  const protection = { kind: 'passphrase', passphrase: 'secret', cost: 16 } as const;
  const repository = await initRepository(
    storage.client('maker'),
    { protection, surroundings: fixedSurroundings('damage'), ...SMALL },
    never,
  );
  const first = await backUp(repository, day1);
  const second = await backUp(repository, day2);
  await repository.hold(first.id, 'kept', never);
  const gone = await backUp(repository, { t: [noise(20_000, 'gone')] }, 'other');
  await repository.deleteBackup(gone.id, never);
  await repository.collect({ times: { packAgeMs: 0 } }, never);
  ids = [first.id, second.id];
  snapshot = snapshotOf(storage);
});

function copy(): SimulatedStorage {
  const storage = new SimulatedStorage();
  for (const [name, bytes] of snapshot) storage.create(name, bytes);
  return storage;
}

const open = async (storage: SimulatedStorage): Promise<Repository> =>
  await openRepository(storage.client('reader'), { secret: async () => 'secret' }, never);

/** Reads both backups; each must be whole, or fail with `damaged` or the like, naming an object. Returns how many were whole. */
async function readBoth(repository: Repository): Promise<number> {
  let whole_ = 0;
  for (const [i, streams] of [day1, day2].entries()) {
    try {
      const manifest = await repository.findBackup(ids[i] ?? '', never);
      expect(await readAll(repository, manifest)).toEqual(whole(streams));
      whole_++;
    } catch (error) {
      if (!(error instanceof CellarError)) throw error;
      expect(['damaged', 'unsupported-format', 'not-found']).toContain(error.code);
      expect(error.code === 'not-found' || typeof error.details.object === 'string').toBe(true);
    }
  }
  return whole_;
}

type Verdict = 'opens not' | 'names the object' | 'says nothing';

/** What verification says after damage to `name`. */
async function verify(
  storage: SimulatedStorage,
  name: ObjectName,
): Promise<{ verdict: Verdict; wholeBackups: number }> {
  let repository: Repository;
  try {
    repository = await open(storage);
  } catch (error) {
    if (!isCellarError(error)) throw error;
    expect(['damaged', 'wrong-key', 'unsupported-format', 'not-found']).toContain(error.code);
    return { verdict: 'opens not', wholeBackups: 0 };
  }
  const { findings } = await repository.check({ level: 'data' }, never);
  const wholeBackups = await readBoth(repository);
  const named = findings.some((finding) => finding.object === name);
  if (named) {
    const harmed = new Set(findings.flatMap(({ backups }) => backups));
    expect(harmed.size).toBeGreaterThanOrEqual(2 - wholeBackups);
  }
  return { verdict: named ? 'names the object' : 'says nothing', wholeBackups };
}

const classes = ['config', 'keys/', 'packs/', 'backups/', 'holds/', 'condemned/'] as const;

/** Packs that some backup uses, and all other objects of a class. */
async function objectsOf(prefix: string): Promise<ObjectName[]> {
  const storage = copy();
  const names = storage.names(prefix);
  if (prefix !== 'packs/') return names;
  const repository = await open(storage);
  const used = new Set<string>();
  for (const id of ids) for (const pack of (await repository.findBackup(id, never)).packs) used.add(pack.object);
  return names.filter((name) => used.has(name));
}

describe.each(classes)('in %s', (prefix) => {
  test('any flipped bit is found and named, or the repository does not open', async () => {
    for (const name of await objectsOf(prefix)) {
      const size = copy().bytes(name).length;
      await fc.assert(
        fc.asyncProperty(fc.nat(size * 8 - 1), async (bit) => {
          const storage = copy();
          storage.flipBit(name, bit);
          expect((await verify(storage, name)).verdict).not.toBe('says nothing');
        }),
        { numRuns: size < 2000 ? 60 : 25 },
      );
    }
  });

  test('any truncation is found and named, or the repository does not open', async () => {
    for (const name of await objectsOf(prefix)) {
      const size = copy().bytes(name).length;
      for (const length of [0, 1, 7, 8, 24, size >> 1, size - 16, size - 1]) {
        const storage = copy();
        storage.truncate(name, length);
        expect((await verify(storage, name)).verdict).not.toBe('says nothing');
      }
    }
  });
});

test('undamaged, the repository verifies without a finding', async () => {
  const storage = copy();
  const repository = await open(storage);
  const report = await repository.check({ level: 'data' }, never);
  expect(report).toMatchObject({ findings: [], unknown: [], checked: { backups: 2 } });
  expect(report.unreferenced.packs).toBeGreaterThan(0);
  expect(await readBoth(repository)).toBe(2);
});

test('a missing pack is named with the backups and entries it harms, by structure alone', async () => {
  const storage = copy();
  const repository = await open(storage);
  const [first, second] = await Promise.all(ids.map((id) => repository.findBackup(id, never)));
  const onlySecond = second?.packs.find(({ object }) => !first?.packs.some((pack) => pack.object === object));
  if (onlySecond === undefined) throw new Error('the second backup wrote no pack');
  storage.remove(onlySecond.object);
  const { findings } = await repository.check({ level: 'structure' }, never);
  expect(findings).toEqual([
    {
      object: onlySecond.object,
      problem: 'it is missing',
      backups: [second?.id],
      entries: [{ backup: second?.id, entry: 't' }],
    },
  ]);
});

test('swapped packs, swapped manifests and a manifest under another name are found', async () => {
  for (const prefix of ['packs/', 'backups/']) {
    const [one, other] = await objectsOf(prefix);
    if (one === undefined || other === undefined) throw new Error('there are not two of them');
    const swapped = copy();
    swapped.swap(one, other);
    const { findings } = await (await open(swapped)).check({ level: 'data' }, never);
    expect(findings.map(({ object }) => object)).toEqual(expect.arrayContaining([one, other]));
    expect(await readBoth(await open(swapped))).toBeLessThan(2);

    const replayed = copy();
    replayed.replay(one, other);
    expect((await verify(replayed, one)).verdict).toBe('names the object');
  }
});

test('a damaged manifest is listed as damaged, hides no other, and can be deleted', async () => {
  const storage = copy();
  const [name] = storage.names('backups/').filter((object) => object.endsWith(ids[0] ?? ''));
  if (name === undefined) throw new Error('no such manifest');
  storage.flipBit(name, 999);
  const repository = await open(storage);
  expect(await repository.listBackups(never)).toMatchObject([
    { id: ids[1], state: 'readable' },
    { id: ids[0], state: 'damaged', held: true, object: name },
  ]);
  await expect(repository.collect({}, never)).rejects.toThrow(ids[0]);
  await repository.release(ids[0] ?? '', never);
  await repository.deleteBackup(ids[0] ?? '', never);
  expect(await repository.listBackups(never)).toHaveLength(1);
});

test('verification of chosen backups reads their entries as a restore does', async () => {
  const storage = copy();
  const repository = await open(storage);
  const [first] = ids;
  const report = await repository.check({ level: 'data', backups: [first ?? ''] }, never);
  const bytes = Object.values(whole(day1)).reduce((sum, entry) => sum + entry.length, 0);
  expect(report).toMatchObject({ findings: [], checked: { backups: 1, bytesRead: bytes } });
});

test('a sample reads the share of packs that was asked for', async () => {
  const repository = await open(copy());
  const all = await repository.check({ level: 'data', percent: 100 }, never);
  const some = await repository.check({ level: 'data', percent: 30 }, never);
  expect(all.checked.packsRead).toBe(all.checked.packs);
  expect(some.checked.packsRead).toBe(Math.ceil(all.checked.packs * 0.3));
});

test('an edited config is refused although it is well formed', async () => {
  for (const [from, to] of [
    ['"encrypted":true', '"encrypted":false'],
    ['"packTargetBytes":32768', '"packTargetBytes":65536'],
  ] as const) {
    const storage = copy();
    const [name] = storage.names('config');
    if (name === undefined) throw new Error('no config');
    storage.overwrite(name, Buffer.from(storage.bytes(name).toString().replace(from, to)));
    await expect(open(storage)).rejects.toThrow();
  }
});

test('a lost pack is stored anew by the next backup', async () => {
  const storage = copy();
  const repository = await open(storage);
  for (const { object } of (await repository.findBackup('latest', never)).packs) storage.remove(object);
  const next = await backUp(await open(storage), day2);
  expect(await readAll(repository, next)).toEqual(whole(day2));
});
