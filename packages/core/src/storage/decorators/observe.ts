/**
 * Counts what goes through a storage, for progress and benchmarks: operations begun and failed, bytes sent and received.
 */
import { isReplayable, piecesOf, sizeOfBytes } from '../body.ts';
import type { Storage } from '../storage.ts';

export type StorageOperation = 'put' | 'get' | 'list' | 'stat' | 'delete' | 'now';

export interface StorageCounts {
  /** Begun, by kind. */
  readonly operations: Readonly<Record<StorageOperation, number>>;
  /** Of those, how many threw; absences and cancellations too. */
  readonly failures: number;
  /** Bytes sent by puts: of streams as they pass, of bytes given whole once they are stored. */
  readonly bytesUp: number;
  /** Bytes that gets delivered. */
  readonly bytesDown: number;
}

export interface ObservedStorage extends Storage {
  /** The counts so far; a snapshot. */
  counts(): StorageCounts;
}

/** @param onBytes told about each piece as it passes: bytes sent, bytes received. */
export function withCounts(storage: Storage, onBytes?: (up: number, down: number) => void): ObservedStorage {
  const operations: Record<StorageOperation, number> = { put: 0, get: 0, list: 0, stat: 0, delete: 0, now: 0 };
  let failures = 0;
  let bytesUp = 0;
  let bytesDown = 0;

  async function counted<T>(kind: StorageOperation, run: () => Promise<T>): Promise<T> {
    operations[kind]++;
    try {
      return await run();
    } catch (error) {
      failures++;
      throw error;
    }
  }

  async function* countedStream<T>(
    kind: StorageOperation,
    open: () => AsyncIterable<T>,
    note: (item: T) => void,
  ): AsyncGenerator<T, void, undefined> {
    operations[kind]++;
    try {
      for await (const item of open()) {
        note(item);
        yield item;
      }
    } catch (error) {
      failures++;
      throw error;
    }
  }

  function sent(bytes: number): void {
    bytesUp += bytes;
    onBytes?.(bytes, 0);
  }

  async function* countedPieces(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of pieces) {
      sent(piece.length);
      yield piece;
    }
  }

  return {
    url: storage.url,
    capabilities: storage.capabilities,
    counts: () => ({ operations: { ...operations }, failures, bytesUp, bytesDown }),
    put: (name, body, { signal }) =>
      counted('put', async () => {
        // Bytes stay bytes, so that a retry below can send them again.
        if (!isReplayable(body)) return await storage.put(name, countedPieces(piecesOf(body, signal)), { signal });
        const written = await storage.put(name, body, { signal });
        sent(sizeOfBytes(body));
        return written;
      }),
    get: (name, options) =>
      countedStream(
        'get',
        () => storage.get(name, options),
        ({ length }) => {
          bytesDown += length;
          onBytes?.(0, length);
        },
      ),
    list: (prefix, options) =>
      countedStream(
        'list',
        () => storage.list(prefix, options),
        () => {},
      ),
    stat: (name, options) => counted('stat', () => storage.stat(name, options)),
    delete: (name, options) => counted('delete', () => storage.delete(name, options)),
    now: (options) => counted('now', () => storage.now(options)),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  };
}
