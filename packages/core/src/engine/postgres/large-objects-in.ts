/**
 * Fills large objects from the stored contents of an archive's large-object blocks: `(oid, (length, bytes)…, 0)…, 0` per block, in the
 * archive's own integers. The objects themselves are there already, with owner and comment: their definitions made them.
 */
import { CellarError, throwIfAborted } from '../../errors.ts';
import type { ArchiveHeader } from './archive.ts';
import type { Connection } from './connection.ts';
import { statementError } from './database-error.ts';

/** Bytes per call to the server. */
const WRITE = 512 * 1024;

export interface LargeObjectsLoaded {
  readonly objects: number;
  readonly bytes: number;
}

/** Writes `blocks` blocks' objects. Throws `damaged` where the stream is cut or goes on after its end. */
export async function loadLargeObjects(
  connection: Connection,
  header: ArchiveHeader,
  blocks: number,
  bytes: AsyncIterable<Uint8Array>,
  onBytes: (count: number) => void,
  signal: AbortSignal,
): Promise<LargeObjectsLoaded> {
  const input = new BlockInput(bytes, header.intSize);
  const buffer = Buffer.allocUnsafe(WRITE);
  let objects = 0;
  let total = 0;
  for (let block = 0; block < blocks; block++) {
    for (let oid = await input.int(); oid !== 0; oid = await input.int()) {
      let offset = 0;
      let filled = 0;
      const flush = async () => {
        if (filled === 0) return;
        throwIfAborted(signal);
        await put(connection, oid, offset, buffer.subarray(0, filled));
        offset += filled;
        total += filled;
        onBytes(filled);
        filled = 0;
      };
      for (let left = await input.int(); left !== 0; left = await input.int()) {
        while (left > 0) {
          const piece = await input.some(Math.min(left, WRITE - filled));
          buffer.set(piece, filled);
          filled += piece.length;
          left -= piece.length;
          if (filled === WRITE) await flush();
        }
      }
      await flush();
      objects++;
    }
  }
  await input.end();
  return { objects, bytes: total };
}

async function put(connection: Connection, oid: number, offset: number, bytes: Buffer): Promise<void> {
  try {
    // The driver sends a Buffer as binary; the offset is a bigint.
    await connection.client.query('SELECT pg_catalog.lo_put($1::oid, $2::bigint, $3::bytea)', [oid, offset, bytes]);
  } catch (error) {
    throw statementError(error, `write large object ${oid}`);
  }
}

class BlockInput {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #intSize: number;
  #chunk: Uint8Array = new Uint8Array();
  #position = 0;

  constructor(bytes: AsyncIterable<Uint8Array>, intSize: number) {
    this.#source = bytes[Symbol.asyncIterator]();
    this.#intSize = intSize;
  }

  /** At least one byte and at most `count`; valid until the next call. */
  async some(count: number): Promise<Uint8Array> {
    while (this.#position === this.#chunk.length) {
      const { value, done } = await this.#source.next();
      if (done === true) throw malformed('ends in the middle');
      this.#chunk = value;
      this.#position = 0;
    }
    const piece = this.#chunk.subarray(this.#position, this.#position + count);
    this.#position += piece.length;
    return piece;
  }

  async int(): Promise<number> {
    const [sign] = await this.some(1);
    let value = 0;
    for (let index = 0, weight = 1; index < this.#intSize; index++, weight *= 256) {
      const [byte = 0] = await this.some(1);
      value += byte * weight;
    }
    if (sign !== 0) throw malformed('holds a negative number');
    return value;
  }

  async end(): Promise<void> {
    for (;;) {
      if (this.#position < this.#chunk.length) throw malformed('goes on after its end');
      const { value, done } = await this.#source.next();
      if (done === true) return;
      this.#chunk = value;
      this.#position = 0;
    }
  }
}

function malformed(how: string): CellarError {
  return new CellarError('damaged', `The stored stream of large objects ${how}.`);
}
