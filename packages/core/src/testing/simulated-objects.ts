/**
 * The objects behind a simulated storage, with their past: who looks may be shown an older state. Here is what a storage would do by
 * itself (create, list, grow stale, run full) and what tests do to it from outside (look at the truth, damage, turn the clock);
 * clients and their faults are in `simulated-storage.ts`.
 */
import { CellarError } from '../errors.ts';
import { alreadyThere, notThere } from '../storage/body.ts';
import type { ObjectName, StoredObject } from '../storage/storage.ts';

export interface Staleness {
  /** Changes (puts and deletes, of everybody) younger than this may not be seen yet, by the storage's clock. */
  readonly windowMs: number;
  /** `worst`: none of them is. `random`: each view decides anew for every object, by the seed. */
  readonly pick: 'worst' | 'random';
  /** What may be stale: listings only (get and stat see the present), or get and stat as well. An exclusive create never is. */
  readonly what: 'listings' | 'everything';
}

export interface SimulatedObjectsOptions {
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
}

export interface Version {
  readonly at: number;
  /** Undefined: deleted. */
  bytes: Buffer | undefined;
}

export class SimulatedObjects {
  /** May be set anew between the phases of a test, like the capacity. */
  staleness: Staleness | undefined;
  capacityBytes: number;
  readonly exclusiveCreate: boolean;
  readonly listPage: number;
  readonly #versions = new Map<ObjectName, Version[]>();
  readonly #random: () => number;
  #now: number;

  constructor(options: SimulatedObjectsOptions) {
    this.#now = (options.start ?? new Date('2024-11-08T12:00:00Z')).getTime();
    this.exclusiveCreate = options.exclusiveCreate ?? true;
    this.listPage = options.listPage ?? Number.POSITIVE_INFINITY;
    this.#random = randomFrom(options.seed ?? 1);
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.staleness = options.staleness;
  }

  /** The storage's clock. */
  now(): Date {
    return new Date(this.#now);
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
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

  // Damage. Seen by everybody at once; the object's size is then the damaged one, its time is unchanged.

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

  // What the storage does, as its clients ask for it.

  create(name: ObjectName, bytes: Buffer): void {
    if (this.exclusiveCreate && this.#present(name) !== undefined) throw alreadyThere(name);
    const replaced = this.#present(name)?.bytes?.length ?? 0;
    if (Number.isFinite(this.capacityBytes) && this.#used() - replaced + bytes.length > this.capacityBytes) {
      throw new CellarError('storage-full', `The simulated storage has no room for ${name}.`, {
        details: { object: name },
      });
    }
    this.#apply(name, bytes);
  }

  /** As a client would, but without an operation: stale views may still show it. `remove` takes it from every view. */
  delete(name: ObjectName): void {
    if (this.#present(name) !== undefined) this.#apply(name, undefined);
  }

  /** A page of a listing: what follows the name `after`. */
  listAfter(prefix: string, after: string): StoredObject[] {
    const page: StoredObject[] = [];
    for (const name of [...this.#versions.keys()].sort()) {
      if (!name.startsWith(prefix) || name <= after) continue;
      const version = this.visible(name, 'listing');
      if (version === undefined) continue;
      page.push(storedObject(name, version));
      if (page.length === this.listPage) break;
    }
    return page;
  }

  #present(name: ObjectName): Version | undefined {
    const version = this.#versions.get(name)?.at(-1);
    return version?.bytes === undefined ? undefined : version;
  }

  /** What a view that may be stale shows of an object. */
  visible(name: ObjectName, view: 'listing' | 'read'): Version | undefined {
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
}

export function storedObject(name: ObjectName, { at, bytes }: Version): StoredObject {
  return { name, size: bytes?.length ?? 0, modifiedAt: new Date(at) };
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
