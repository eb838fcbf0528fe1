/**
 * A storage in memory that misbehaves as real ones do, on command, for fault tests of what stands on the port.
 *
 * - Several clients (`storage.client('writer-1')`) share the objects; each has its own operation count, faults and skewed clock.
 * - `beforeOperation` is awaited before each operation takes effect: tests order the operations of several clients by it
 *   (`interleave.ts` does so for every order).
 * - Faults are planned by operation number: the client crashes (that operation and all later ones throw), or one operation fails
 *   once, before or after it took effect, or a read is cut.
 * - Time stands still until a test moves it (`advance`), so staleness and ages are exact.
 * - A put is atomic: it applies or does not. What tears is the knowledge about it: an answer that is lost, a listing that is stale.
 */
import { CellarError, throwIfAborted } from '../errors.ts';
import { alreadyThere, notThere, piecesOf, spanOf } from '../storage/body.ts';
import type { ObjectName, ReadOptions, SignalOption, Storage, StoredObject, WriteOptions } from '../storage/storage.ts';

export type OperationKind = 'put' | 'get' | 'list' | 'stat' | 'delete' | 'now';

export interface Operation {
  readonly client: string;
  readonly kind: OperationKind;
  /** The object's name; the prefix of a list; `''` for now. */
  readonly name: string;
  /** Counts this client's operations, from 1. Each page of a list is one. */
  readonly number: number;
}

export interface Fault {
  /** The client's operation number, or a test of the operation (it then fires once, the first time it is true). */
  readonly at: number | ((operation: Operation) => boolean);
  /**
   * `crash-before`, `crash-after`: the machine dies before or after the operation took effect; this and all later operations of the
   * client throw a SimulatedCrash. `fail-before`, `fail-after`: only this one throws, retryable; after: the answer was lost.
   * `cut`: a get breaks off, retryable, after `bytes` bytes.
   */
  readonly effect: 'crash-before' | 'crash-after' | 'fail-before' | 'fail-after' | 'cut';
  /** For `cut`. */
  readonly bytes?: number;
}

export interface Staleness {
  /** Changes (puts and deletes, of everybody) younger than this may not be seen yet, by the storage's clock. */
  readonly windowMs: number;
  /** `worst`: none of them is. `random`: each view decides anew for every object, by the seed. */
  readonly pick: 'worst' | 'random';
  /** What may be stale: listings only (get and stat see the present), or get and stat as well. An exclusive create never is. */
  readonly what: 'listings' | 'everything';
}

export interface SimulatedStorageOptions {
  /** The storage's clock at the start. Default 2024-11-08T12:00:00Z. */
  readonly start?: Date;
  /** Default true. False: a put of a name that exists replaces the object, as on storages without conditional writes. */
  readonly exclusiveCreate?: boolean;
  /** Default: nothing is stale. */
  readonly staleness?: Staleness;
  /** A put that would make the objects larger than this in all fails with `storage-full`. Default: no limit. */
  readonly capacityBytes?: number;
  /** Objects per page of a listing; other clients' changes may fall between two pages. Default: one page, one instant. */
  readonly listPage?: number;
  /** For `random` staleness. Default 1. */
  readonly seed?: number;
  /** Awaited before each operation takes effect. What it throws, the operation throws. */
  readonly beforeOperation?: (operation: Operation) => Promise<void> | void;
}

export interface ClientOptions {
  readonly faults?: readonly Fault[];
  /** How far this client's own clock (`clockOf`) is ahead of the storage's. Default 0. */
  readonly skewMs?: number;
}

/** What a crashed client's operations throw. Never retryable: the machine is gone. */
export class SimulatedCrash extends CellarError {
  constructor(operation: Operation) {
    super(
      'storage-failed',
      `Simulated crash of ${operation.client} at operation ${operation.number} (${operation.kind} ${operation.name}).`,
    );
    this.name = 'SimulatedCrash';
  }
}

interface Version {
  readonly at: number;
  /** Undefined: deleted. */
  bytes: Buffer | undefined;
}

interface Client {
  readonly name: string;
  readonly faults: Fault[];
  readonly skewMs: number;
  operations: number;
  crashed: boolean;
}

export class SimulatedStorage {
  /** Every operation that was begun, in order. */
  readonly log: Operation[] = [];
  /** May be set anew between the phases of a test. */
  beforeOperation: ((operation: Operation) => Promise<void> | void) | undefined;
  capacityBytes: number;
  staleness: Staleness | undefined;
  readonly #exclusiveCreate: boolean;
  readonly #listPage: number;
  readonly #versions = new Map<ObjectName, Version[]>();
  readonly #clients = new Map<string, Client>();
  readonly #random: () => number;
  #now: number;

  constructor(options: SimulatedStorageOptions = {}) {
    this.#now = (options.start ?? new Date('2024-11-08T12:00:00Z')).getTime();
    this.#exclusiveCreate = options.exclusiveCreate ?? true;
    this.#listPage = options.listPage ?? Number.POSITIVE_INFINITY;
    this.#random = randomFrom(options.seed ?? 1);
    this.beforeOperation = options.beforeOperation;
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.staleness = options.staleness;
  }

  /**
   * The storage as a machine of this name sees it. Asking again for the same name is that machine started anew: its count begins at
   * 1, its faults are those given now, and it lives; operations of the machine's earlier life stay refused if it crashed.
   */
  client(name: string, options: ClientOptions = {}): Storage {
    const client: Client = {
      name,
      faults: [...(options.faults ?? [])],
      skewMs: options.skewMs ?? 0,
      operations: 0,
      crashed: false,
    };
    this.#clients.set(name, client);
    return this.#storageOf(client);
  }

  /** The storage's clock. */
  now(): Date {
    return new Date(this.#now);
  }

  /** The machine's own, possibly wrong clock, for code that takes one. */
  clockOf(client: string): () => Date {
    return () => new Date(this.#now + (this.#clients.get(client)?.skewMs ?? 0));
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
  }

  hasCrashed(client: string): boolean {
    return this.#clients.get(client)?.crashed ?? false;
  }

  /** How many operations the client has begun: run once without faults to know how many crash points there are. */
  operationsOf(client: string): number {
    return this.#clients.get(client)?.operations ?? 0;
  }

  // What is really there, without operations, staleness or faults.

  names(prefix = ''): ObjectName[] {
    return [...this.#versions.keys()]
      .filter((name) => name.startsWith(prefix) && this.#present(name) !== undefined)
      .sort();
  }

  /** The object's bytes; throws `not-found`. */
  bytes(name: ObjectName): Buffer {
    const bytes = this.#present(name)?.bytes;
    if (bytes === undefined) throw notThere(name);
    return bytes;
  }

  // Damage. Seen by everybody at once; sizes and times are then those of the damaged object, its time is unchanged.

  /** Bit 0 is the lowest of the first byte. */
  flipBit(name: ObjectName, bit: number): void {
    const bytes = Buffer.from(this.bytes(name));
    const at = bit >>> 3;
    if (at >= bytes.length) throw new RangeError(`${name} has no bit ${bit}`);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (bit & 7)), at);
    this.overwrite(name, bytes);
  }

  truncate(name: ObjectName, length: number): void {
    this.overwrite(name, this.bytes(name).subarray(0, length));
  }

  swap(one: ObjectName, other: ObjectName): void {
    const bytes = this.bytes(one);
    this.overwrite(one, this.bytes(other));
    this.overwrite(other, bytes);
  }

  /** Puts the bytes of `older` in the place of `name`, as a replay of an old object would. */
  replay(name: ObjectName, older: ObjectName): void {
    this.overwrite(name, this.bytes(older));
  }

  overwrite(name: ObjectName, bytes: Uint8Array): void {
    const version = this.#present(name);
    if (version === undefined) throw notThere(name);
    version.bytes = Buffer.from(bytes);
  }

  /** The object never was. */
  remove(name: ObjectName): void {
    this.#versions.delete(name);
  }

  /** Brings a deleted object back as it was, with its time, as a restored snapshot of the storage would. */
  resurrect(name: ObjectName): void {
    const versions = this.#versions.get(name) ?? [];
    while (versions.at(-1)?.bytes === undefined && versions.length > 0) versions.pop();
    if (versions.length === 0) throw notThere(name);
  }

  #present(name: ObjectName): Version | undefined {
    const version = this.#versions.get(name)?.at(-1);
    return version?.bytes === undefined ? undefined : version;
  }

  /** What a view that may be stale shows of an object. */
  #visible(name: ObjectName, view: 'listing' | 'read'): Version | undefined {
    const versions = this.#versions.get(name) ?? [];
    const { staleness } = this;
    if (staleness === undefined || (view === 'read' && staleness.what === 'listings')) return this.#present(name);
    const settled = versions.findLastIndex(({ at }) => this.#now - at >= staleness.windowMs);
    const choices = versions.length - settled;
    const shown = settled + (staleness.pick === 'worst' ? 0 : Math.floor(this.#random() * choices));
    const version = versions[shown];
    return version?.bytes === undefined ? undefined : version;
  }

  #apply(name: ObjectName, bytes: Buffer | undefined): void {
    const versions = this.#versions.get(name) ?? [];
    versions.push({ at: this.#now, bytes });
    this.#versions.set(name, versions);
  }

  #used(): number {
    return this.names().reduce((sum, name) => sum + this.bytes(name).length, 0);
  }

  /** Begins an operation: counts it, waits for the test's turn, and throws what is planned to come before it. */
  async #begin(client: Client, kind: OperationKind, name: string, signal: AbortSignal): Promise<RunningOperation> {
    throwIfAborted(signal);
    client.operations++;
    const operation: Operation = { client: client.name, kind, name, number: client.operations };
    if (client.crashed) throw new SimulatedCrash(operation);
    this.log.push(operation);
    await this.beforeOperation?.(operation);
    // It may have died in another of its operations while this one waited for its turn.
    if (client.crashed) throw new SimulatedCrash(operation);
    throwIfAborted(signal);
    const index = client.faults.findIndex(({ at }) =>
      typeof at === 'number' ? at === operation.number : at(operation),
    );
    const fault = index < 0 ? undefined : client.faults.splice(index, 1)[0];
    if (fault?.effect === 'crash-before') throw crash(client, operation);
    if (fault?.effect === 'fail-before') throw transient(operation);
    return { operation, fault };
  }

  /** Ends an operation: throws what is planned to come after it. */
  #end(client: Client, { operation, fault }: RunningOperation): void {
    if (client.crashed) throw new SimulatedCrash(operation);
    if (fault?.effect === 'crash-after') throw crash(client, operation);
    if (fault?.effect === 'fail-after') throw transient(operation);
  }

  #storageOf(client: Client): Storage {
    const simulated = this;

    async function* get(name: ObjectName, { signal, range }: ReadOptions): AsyncGenerator<Uint8Array, void, undefined> {
      const running = await simulated.#begin(client, 'get', name, signal);
      const bytes = simulated.#visible(name, 'read')?.bytes;
      if (bytes === undefined) throw notThere(name);
      const { start, end } = spanOf(name, bytes.length, range);
      const { fault, operation } = running;
      const stop = fault?.effect === 'cut' ? Math.min(end, start + (fault.bytes ?? 0)) : end;
      for (let at = start; at < stop; at += READ_PIECE) {
        throwIfAborted(signal);
        yield Buffer.from(bytes.subarray(at, Math.min(stop, at + READ_PIECE)));
      }
      if (fault?.effect === 'cut') throw transient(operation);
      simulated.#end(client, running);
    }

    async function* list(prefix: string, { signal }: SignalOption): AsyncGenerator<StoredObject, void, undefined> {
      let after = '';
      while (true) {
        const running = await simulated.#begin(client, 'list', prefix, signal);
        const page = simulated.#listPageAfter(prefix, after);
        simulated.#end(client, running);
        yield* page;
        const last = page.at(-1);
        if (last === undefined || page.length < simulated.#listPage) return;
        after = last.name;
      }
    }

    return {
      url: `simulated:${client.name}`,
      capabilities: { exclusiveCreate: this.#exclusiveCreate },
      async put(name, body, { signal }: WriteOptions) {
        const running = await simulated.#begin(client, 'put', name, signal);
        const pieces: Buffer[] = [];
        for await (const piece of piecesOf(body, signal)) pieces.push(Buffer.from(piece));
        const bytes = Buffer.concat(pieces);
        throwIfAborted(signal);
        if (client.crashed) throw new SimulatedCrash(running.operation);
        simulated.#create(name, bytes);
        simulated.#end(client, running);
        return { name, size: bytes.length, modifiedAt: simulated.now() };
      },
      get,
      list,
      async stat(name, { signal }) {
        const running = await simulated.#begin(client, 'stat', name, signal);
        const version = simulated.#visible(name, 'read');
        simulated.#end(client, running);
        if (version === undefined) throw notThere(name);
        return storedObject(name, version);
      },
      async delete(name, { signal }) {
        const running = await simulated.#begin(client, 'delete', name, signal);
        if (simulated.#present(name) !== undefined) simulated.#apply(name, undefined);
        simulated.#end(client, running);
      },
      async now({ signal }) {
        const running = await simulated.#begin(client, 'now', '', signal);
        const now = simulated.now();
        simulated.#end(client, running);
        return now;
      },
      async [Symbol.asyncDispose]() {},
    };
  }

  #create(name: ObjectName, bytes: Buffer): void {
    if (this.#exclusiveCreate && this.#present(name) !== undefined) throw alreadyThere(name);
    if (this.#used() + bytes.length > this.capacityBytes) {
      throw new CellarError('storage-full', `The simulated storage has no room for ${name}.`, {
        details: { object: name },
      });
    }
    this.#apply(name, bytes);
  }

  #listPageAfter(prefix: string, after: string): StoredObject[] {
    const page: StoredObject[] = [];
    for (const name of [...this.#versions.keys()].sort()) {
      if (!name.startsWith(prefix) || name <= after) continue;
      const version = this.#visible(name, 'listing');
      if (version === undefined) continue;
      page.push(storedObject(name, version));
      if (page.length === this.#listPage) break;
    }
    return page;
  }
}

interface RunningOperation {
  readonly operation: Operation;
  readonly fault: Fault | undefined;
}

const READ_PIECE = 256 * 1024;

function storedObject(name: ObjectName, { at, bytes }: Version): StoredObject {
  return { name, size: bytes?.length ?? 0, modifiedAt: new Date(at) };
}

function crash(client: Client, operation: Operation): SimulatedCrash {
  client.crashed = true;
  return new SimulatedCrash(operation);
}

function transient({ client, kind, name, number }: Operation): CellarError {
  return new CellarError('storage-failed', `Simulated failure of ${client}'s operation ${number} (${kind} ${name}).`, {
    retryable: true,
  });
}

/** Mulberry32: a small generator of numbers in [0, 1), the same for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
