/**
 * Exhaustive exploration of how clients' storage operations can follow one another, with states that were seen before not explored
 * again. A state is what the storage holds, its clock, and all that each client has observed so far: clients are deterministic, so
 * from equal states everything goes on equally.
 */
import { createHash } from 'node:crypto';
import type { ObjectName, Storage, StoredObject } from '../../src/storage/storage.ts';
import { type InterleavedRun, runInterleaved, type Tasks } from '../../src/testing/interleave.ts';
import type { Operation, SimulatedStorage } from '../../src/testing/simulated-storage.ts';

export interface World {
  readonly storage: SimulatedStorage;
  readonly tasks: Tasks;
  /** What each client has observed: filled by the storages that `observed` wraps. */
  readonly observations: Map<string, string>;
  /** Whether this operation may come next, while the others wait before theirs. */
  readonly enabled: (operation: Operation, waiting: readonly Operation[]) => boolean;
  /**
   * Whether it makes no difference to anybody when this operation takes place: its answer depends on nothing that the others do, and they
   * cannot notice it. It is then done at once, instead of in every order with the others'.
   */
  readonly independent: (operation: Operation) => boolean;
  /** Called at the end of a run; throws when something is not as it must be. */
  readonly check: (run: InterleavedRun) => Promise<void>;
}

export interface Explored {
  readonly states: number;
  /** Runs that came to an end: different outcomes, each checked. */
  readonly ends: number;
}

const SEEN_BEFORE = new Error('this state was explored before');

export interface Bound {
  /**
   * Only orders in which a client that could go on is interrupted at most this often. Few interruptions find most of what many find
   * (Musuvathi and Qadeer, 2007). Default: all orders.
   */
  readonly interruptions?: number;
}

export async function explore(build: () => Promise<World>, bound: Bound = {}): Promise<Explored> {
  const { interruptions: most = Number.POSITIVE_INFINITY } = bound;
  const seen = new Set<string>();
  const open: number[][] = [[]];
  let ends = 0;
  for (let prefix = open.pop(); prefix !== undefined; prefix = open.pop()) {
    const given = prefix;
    const world = await build();
    const path: number[] = [];
    let running: string | undefined;
    let interruptions = 0;
    /** Notes a choice, and whether it interrupts the client that ran until now. */
    const take = (choice: number, waiting: readonly Operation[]): number => {
      const { client } = waiting[choice] ?? { client: undefined };
      if (client !== running && waiting.some((other) => other.client === running && world.enabled(other, waiting))) {
        interruptions++;
      }
      running = client;
      path.push(choice);
      return choice;
    };
    const choose = (waiting: readonly Operation[]): number => {
      let choice = given[path.length];
      if (choice === undefined) {
        const alone = waiting.findIndex(world.independent);
        if (alone !== -1) {
          return take(alone, waiting);
        }
        const progress = Number.isFinite(most) ? `${running} ${interruptions}` : '';
        const state = stateOf(world, waiting, progress);
        if (seen.has(state)) throw SEEN_BEFORE;
        seen.add(state);
        const enabled = waiting.flatMap((operation, i) => (world.enabled(operation, waiting) ? [i] : []));
        const goingOn = enabled.filter((i) => waiting[i]?.client === running);
        const [first, ...others] = interruptions >= most && goingOn.length > 0 ? goingOn : enabled;
        if (first === undefined) throw new Error('no client can go on');
        for (const other of others) open.push([...path, other]);
        choice = first;
      }
      return take(choice, waiting);
    };
    let run: InterleavedRun;
    try {
      run = await runInterleaved(world.storage, world.tasks, choose);
    } catch (error) {
      if (error === SEEN_BEFORE) continue;
      throw error;
    }
    ends++;
    await world.check(run);
  }
  return { states: seen.size, ends };
}

function stateOf({ storage, observations }: World, waiting: readonly Operation[], progress: string): string {
  const hash = createHash('md5').update(progress);
  hash.update(String(storage.now().getTime()));
  for (const { name, size, modifiedAt } of storage.listAfter('', ''))
    hash.update(`|${name} ${size} ${modifiedAt.getTime()}`);
  for (const { client, kind, name } of waiting) hash.update(`|${client} ${kind} ${name}`);
  for (const [client, observation] of observations) hash.update(`|${client} ${observation}`);
  return hash.digest('base64');
}

/**
 * The storage, with everything that the client learns from it added to its observations.
 * @param times whether the client looks at the times of objects.
 */
export function observed(storage: Storage, client: string, observations: Map<string, string>, times: boolean): Storage {
  observations.set(client, '');
  const learn = (what: string) => {
    observations.set(
      client,
      createHash('md5')
        .update(`${observations.get(client)}|${what}`)
        .digest('base64'),
    );
  };
  const told = ({ name, size, modifiedAt }: StoredObject) => `${name} ${size} ${times ? modifiedAt.getTime() : ''}`;
  async function result<T>(operation: string, run: Promise<T>, say: (value: T) => string): Promise<T> {
    try {
      const value = await run;
      learn(`${operation} ${say(value)}`);
      return value;
    } catch (error) {
      learn(`${operation} failed: ${String(error)}`);
      throw error;
    }
  }
  return {
    url: storage.url,
    capabilities: storage.capabilities,
    put: (name, body, options) => result(`put ${name}`, storage.put(name, body, options), told),
    stat: (name, options) => result(`stat ${name}`, storage.stat(name, options), told),
    delete: (name, options) => result(`delete ${name}`, storage.delete(name, options), () => ''),
    now: (options) => result('now', storage.now(options), (now) => String(now.getTime())),
    async *get(name, options) {
      try {
        // Objects are written once, so a name says what the bytes are.
        yield* storage.get(name, options);
        learn(`get ${name}`);
      } catch (error) {
        learn(`get ${name} failed: ${String(error)}`);
        throw error;
      }
    },
    async *list(prefix, options) {
      for await (const object of storage.list(prefix, options)) {
        learn(told(object));
        yield object;
      }
      learn(`list ${prefix}`);
    },
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  };
}

/** A storage's objects, to begin many worlds with. */
export type Snapshot = readonly (readonly [ObjectName, Buffer])[];

export function snapshotOf(storage: SimulatedStorage): Snapshot {
  return storage.names().map((name) => [name, storage.bytes(name)] as const);
}
