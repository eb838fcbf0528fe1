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
import { notThere, piecesOf, spanOf } from '../storage/body.ts';
import type { ObjectName, ReadOptions, SignalOption, Storage, StoredObject, WriteOptions } from '../storage/storage.ts';
import { SimulatedObjects, type SimulatedObjectsOptions, storedObject } from './simulated-objects.ts';

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

export interface SimulatedStorageOptions extends SimulatedObjectsOptions {
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

interface Client {
  readonly name: string;
  readonly faults: Fault[];
  readonly skewMs: number;
  operations: number;
  crashed: boolean;
}

export class SimulatedStorage extends SimulatedObjects {
  /** Every operation that was begun, in order. */
  readonly log: Operation[] = [];
  /** May be set anew between the phases of a test. */
  beforeOperation: ((operation: Operation) => Promise<void> | void) | undefined;
  readonly #clients = new Map<string, Client>();

  constructor(options: SimulatedStorageOptions = {}) {
    super(options);
    this.beforeOperation = options.beforeOperation;
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

  /** The machine's own, possibly wrong clock, for code that takes one. */
  clockOf(client: string): () => Date {
    return () => new Date(this.now().getTime() + (this.#clients.get(client)?.skewMs ?? 0));
  }

  hasCrashed(client: string): boolean {
    return this.#clients.get(client)?.crashed ?? false;
  }

  /** How many operations the client has begun: run once without faults to know how many crash points there are. */
  operationsOf(client: string): number {
    return this.#clients.get(client)?.operations ?? 0;
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
      const bytes = simulated.visible(name, 'read')?.bytes;
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
        const page = simulated.listAfter(prefix, after);
        simulated.#end(client, running);
        yield* page;
        const last = page.at(-1);
        if (last === undefined || page.length < simulated.listPage) return;
        after = last.name;
      }
    }

    return {
      url: `simulated:${client.name}`,
      capabilities: { exclusiveCreate: this.exclusiveCreate },
      async put(name, body, { signal }: WriteOptions) {
        const running = await simulated.#begin(client, 'put', name, signal);
        const pieces: Buffer[] = [];
        for await (const piece of piecesOf(body, signal)) pieces.push(Buffer.from(piece));
        const bytes = Buffer.concat(pieces);
        throwIfAborted(signal);
        if (client.crashed) throw new SimulatedCrash(running.operation);
        simulated.create(name, bytes);
        simulated.#end(client, running);
        return { name, size: bytes.length, modifiedAt: simulated.now() };
      },
      get,
      list,
      async stat(name, { signal }) {
        const running = await simulated.#begin(client, 'stat', name, signal);
        const version = simulated.visible(name, 'read');
        simulated.#end(client, running);
        if (version === undefined) throw notThere(name);
        return storedObject(name, version);
      },
      async delete(name, { signal }) {
        const running = await simulated.#begin(client, 'delete', name, signal);
        simulated.delete(name);
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
}

interface RunningOperation {
  readonly operation: Operation;
  readonly fault: Fault | undefined;
}

const READ_PIECE = 256 * 1024;

function crash(client: Client, operation: Operation): SimulatedCrash {
  client.crashed = true;
  return new SimulatedCrash(operation);
}

function transient({ client, kind, name, number }: Operation): CellarError {
  return new CellarError('storage-failed', `Simulated failure of ${client}'s operation ${number} (${kind} ${name}).`, {
    retryable: true,
  });
}
