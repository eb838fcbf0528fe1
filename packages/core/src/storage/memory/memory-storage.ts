/**
 * A storage in this process's memory, for tests and rehearsals. It keeps every promise of the port but durability: an object appears
 * whole or not at all, names are created exclusively, and bytes given or taken are copies.
 */
import { throwIfAborted } from '../../errors.ts';
import { alreadyThere, notThere, piecesOf, spanOf } from '../body.ts';
import type { ObjectName, ReadOptions, SignalOption, Storage, StoredObject, WriteOptions } from '../storage.ts';

export interface MemoryStorageOptions {
  /** The storage's clock. Default: this machine's. */
  readonly now?: () => Date;
  /** For people; two storages in one test are told apart by it. Default `memory`. */
  readonly label?: string;
}

const READ_PIECE = 256 * 1024;

export function createMemoryStorage(options: MemoryStorageOptions = {}): Storage {
  const clock = options.now ?? (() => new Date());
  const objects = new Map<ObjectName, { readonly bytes: Uint8Array; readonly stored: StoredObject }>();

  async function* get(name: ObjectName, { signal, range }: ReadOptions): AsyncGenerator<Uint8Array, void, undefined> {
    throwIfAborted(signal);
    const object = objects.get(name);
    if (object === undefined) throw notThere(name);
    const { start, end } = spanOf(name, object.bytes.length, range);
    for (let at = start; at < end; at += READ_PIECE) {
      throwIfAborted(signal);
      yield Buffer.from(object.bytes.subarray(at, Math.min(end, at + READ_PIECE)));
    }
  }

  async function* list(prefix: string, { signal }: SignalOption): AsyncGenerator<StoredObject, void, undefined> {
    throwIfAborted(signal);
    for (const [name, { stored }] of [...objects]) {
      if (!name.startsWith(prefix)) continue;
      throwIfAborted(signal);
      yield stored;
    }
  }

  return {
    url: `memory:${options.label ?? 'memory'}`,
    capabilities: { exclusiveCreate: true },
    async put(name, body, { signal }: WriteOptions) {
      throwIfAborted(signal);
      if (objects.has(name)) throw alreadyThere(name);
      const pieces: Buffer[] = [];
      for await (const piece of piecesOf(body, signal)) pieces.push(Buffer.from(piece));
      const bytes = Buffer.concat(pieces);
      throwIfAborted(signal);
      if (objects.has(name)) throw alreadyThere(name);
      const stored: StoredObject = { name, size: bytes.length, modifiedAt: clock() };
      objects.set(name, { bytes, stored });
      return stored;
    },
    get,
    list,
    async stat(name, { signal }) {
      throwIfAborted(signal);
      const object = objects.get(name);
      if (object === undefined) throw notThere(name);
      return object.stored;
    },
    async delete(name, { signal }) {
      throwIfAborted(signal);
      objects.delete(name);
    },
    async now({ signal }) {
      throwIfAborted(signal);
      return clock();
    },
    async [Symbol.asyncDispose]() {
      objects.clear();
    },
  };
}
