/**
 * Takes a custom archive of pg_dump (`-Fc -Z0`, see `archive.ts`) apart while it streams by: the head, then each data block's contents,
 * in the order of the table of contents. Nothing is ever held but a buffer, whatever the size of a row.
 *
 *   data block           1 dumpId (length bytes)… 0                      contents: COPY text, ending with `\.\n\n\n`
 *   large-object block   3 dumpId (oid (length bytes)… 0)… 0             contents: all of it after the dump id
 *
 * Pieces are of any size (one per row up to PostgreSQL 18), so they are copied into large buffers, and rows are counted by newlines:
 * in COPY text a newline within a value is written `\n`, so each byte 10 ends a row.
 */
import { CellarError } from '../../errors.ts';
import {
  type ArchiveToc,
  archiveText,
  BLOCK_DATA,
  BLOCK_LARGE_OBJECTS,
  COPY_TERMINATOR,
  parseArchiveToc,
  type TocEntry,
} from './archive.ts';
import { countNewlines } from './newlines.ts';

export interface ArchiveReader {
  readonly toc: ArchiveToc;
  /** Header and TOC, byte for byte. */
  readonly head: Buffer;
  /** The data blocks, one for each TOC entry that has data, in TOC order; to be asked for once, each read to its end. */
  readonly blocks: AsyncIterable<ArchiveBlock>;
}

export interface ArchiveBlock {
  readonly entry: TocEntry;
  readonly kind: 'rows' | 'large-objects';
  /**
   * Rows: the COPY text without its terminator. Large objects: the block's contents as they are. To be read once. An array is valid
   * until the next is asked for. Throws `damaged` where the archive is cut or malformed.
   */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Bytes yielded, and rows or large objects in them; throws before `bytes` has ended. */
  counts(): BlockCounts;
}

export interface BlockCounts {
  readonly bytes: number;
  /** Rows, or large objects. */
  readonly rows: number;
}

const BUFFER_BYTES = 512 * 1024;
/** Below this many bytes a loop beats the call of `copy`. */
const LOOP_BYTES = 24;
/** A table of contents above this is damage, not a database: 5,000 tables make 5 MB. */
const MAX_HEAD_BYTES = 1024 * 1024 * 1024;

/**
 * Reads the head of an archive. Throws `unsupported-format` (another version or format, or compressed blocks) or `damaged`;
 * an error of `source` passes through.
 */
export async function readArchive(source: AsyncIterable<Uint8Array>): Promise<ArchiveReader> {
  const input = new Input(source);
  const toc = await readHead(input);
  const head = Buffer.from(input.chunk.subarray(0, toc.length));
  input.position = toc.length;
  if (toc.header.compression !== 0 && toc.entries.some((entry) => entry.hasData)) {
    throw new CellarError('unsupported-format', 'The archive of pg_dump is compressed, which Cellar does not read.', {
      hint: 'Make it anew with pg_dump -Fc -Z0, or restore it with pg_restore.',
    });
  }
  return { toc, head, blocks: readBlocks(input, toc) };
}

async function readHead(input: Input): Promise<ArchiveToc> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  let triedAt = 0;
  for (;;) {
    const more = await input.next();
    if (more) {
      pieces.push(Buffer.from(input.chunk));
      size += input.chunk.length;
    }
    // Each try starts anew, so tries get rarer as the head grows.
    if (more && size < triedAt * 1.25) continue;
    triedAt = size;
    const bytes = Buffer.concat(pieces, size);
    const toc = parseArchiveToc(bytes);
    if (toc !== undefined) {
      input.chunk = bytes;
      return toc;
    }
    if (!more) throw cut('its table of contents');
    if (size > MAX_HEAD_BYTES) throw malformed('its table of contents does not end');
  }
}

async function* readBlocks(input: Input, toc: ArchiveToc): AsyncGenerator<ArchiveBlock> {
  const { intSize } = toc.header;
  // One for all blocks, which are read one after the other.
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  for (const entry of toc.entries) {
    if (!entry.hasData) continue;
    const type = await input.byte(entry);
    const dumpId = await input.int(intSize, entry);
    if (dumpId !== entry.dumpId)
      throw malformed(`where the data of ${nameOf(entry)} should be is that of entry ${dumpId}`);
    let counts: BlockCounts | undefined;
    const finished = (found: BlockCounts) => {
      counts = found;
    };
    if (type !== BLOCK_DATA && type !== BLOCK_LARGE_OBJECTS) {
      throw malformed(`the data of ${nameOf(entry)} is of an unknown kind`);
    }
    yield {
      entry,
      kind: type === BLOCK_DATA ? 'rows' : 'large-objects',
      bytes:
        type === BLOCK_DATA
          ? readRows(input, buffer, entry, intSize, finished)
          : readLargeObjects(input, entry, intSize, finished),
      counts() {
        if (counts === undefined) throw new Error('The block has not been read to its end');
        return counts;
      },
    };
    if (counts === undefined) throw new Error('A block was asked for before the one before it was read to its end');
  }
}

async function* readRows(
  input: Input,
  out: Buffer,
  entry: TocEntry,
  intSize: number,
  finished: (counts: BlockCounts) => void,
): AsyncGenerator<Uint8Array> {
  const kept = COPY_TERMINATOR.length;
  let filled = 0;
  let bytes = 0;
  let rows = 0;
  let pieceLeft = 0;
  for (;;) {
    if (pieceLeft === 0) {
      pieceLeft = await input.pieceLength(intSize, entry);
      if (pieceLeft === 0) break;
    }
    if (input.position === input.chunk.length && !(await input.next())) throw cut(`the data of ${nameOf(entry)}`);
    // Whole pieces that lie in this chunk and fit the buffer, without leaving the loop: it is where the time goes.
    let { chunk, position } = input;
    const end = chunk.length;
    for (;;) {
      const count = Math.min(pieceLeft, end - position, BUFFER_BYTES - filled);
      if (count < LOOP_BYTES) {
        for (let index = 0; index < count; index++) out[filled + index] = chunk[position + index] ?? 0;
      } else {
        chunk.copy(out, filled, position, position + count);
      }
      filled += count;
      position += count;
      pieceLeft -= count;
      if (pieceLeft > 0 || filled === BUFFER_BYTES || end - position <= intSize) break;
      const length = fastInt(chunk, position, intSize);
      if (length <= 0) break;
      position += 1 + intSize;
      pieceLeft = length;
      if (position === end) break;
    }
    input.position = position;
    if (filled === BUFFER_BYTES) {
      const ready = filled - kept;
      rows += countNewlines(out, 0, ready);
      bytes += ready;
      yield out.subarray(0, ready);
      out.copyWithin(0, ready, filled);
      filled = kept;
    }
  }
  const ready = filled - kept;
  if (ready < 0 || !out.subarray(ready, filled).equals(COPY_TERMINATOR)) {
    if (archiveText(entry.copyStatement) === '') {
      throw new CellarError(
        'unsupported-format',
        `The archive holds ${nameOf(entry)} as INSERT statements, which Cellar does not read.`,
        {
          hint: 'Make it anew with pg_dump -Fc -Z0 without --inserts, or restore it with pg_restore.',
        },
      );
    }
    throw malformed(`the data of ${nameOf(entry)} lacks its end mark`);
  }
  rows += countNewlines(out, 0, ready);
  bytes += ready;
  if (ready > 0) yield out.subarray(0, ready);
  finished({ bytes, rows });
}

async function* readLargeObjects(
  input: Input,
  entry: TocEntry,
  intSize: number,
  finished: (counts: BlockCounts) => void,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  let objects = 0;
  let inObject = false;
  const header = Buffer.alloc(1 + intSize);
  for (;;) {
    // An integer is an oid outside of an object and a piece's length within; 0 ends the block or the object.
    const value = await input.int(intSize, entry, header);
    if (value < 0) throw malformed(`the data of ${nameOf(entry)} has a negative length`);
    bytes += header.length;
    yield header;
    if (!inObject) {
      if (value === 0) break;
      objects++;
      inObject = true;
    } else if (value === 0) {
      inObject = false;
    } else {
      for (let left = value; left > 0; ) {
        if (input.position === input.chunk.length && !(await input.next())) throw cut(`the data of ${nameOf(entry)}`);
        const piece = input.chunk.subarray(input.position, input.position + left);
        input.position += piece.length;
        left -= piece.length;
        bytes += piece.length;
        yield piece;
      }
    }
  }
  finished({ bytes, rows: objects });
}

/** The source's bytes with a reading position in the chunk at hand. */
class Input {
  readonly #source: AsyncIterator<Uint8Array>;
  chunk: Buffer = Buffer.alloc(0);
  position = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Takes the next chunk in place of the one at hand; false at the end of the source. */
  async next(): Promise<boolean> {
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done === true) return false;
      if (value.length === 0) continue;
      this.chunk = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.length);
      this.position = 0;
      return true;
    }
  }

  async byte(entry: TocEntry): Promise<number> {
    if (this.position === this.chunk.length && !(await this.next())) throw cut(`the data of ${nameOf(entry)}`);
    return this.chunk[this.position++] ?? 0;
  }

  /** An integer of the archive; its own bytes go to `copy`, when given. */
  async int(intSize: number, entry: TocEntry, copy?: Buffer): Promise<number> {
    const sign = await this.byte(entry);
    if (copy !== undefined) copy[0] = sign;
    let value = 0;
    for (let index = 0, weight = 1; index < intSize; index++, weight *= 256) {
      const byte = await this.byte(entry);
      if (copy !== undefined) copy[index + 1] = byte;
      value += byte * weight;
    }
    if (sign > 1) throw malformed(`an integer in the data of ${nameOf(entry)} is malformed`);
    return sign === 1 ? -value : value;
  }

  async pieceLength(intSize: number, entry: TocEntry): Promise<number> {
    const length = await this.int(intSize, entry);
    if (length < 0) throw malformed(`the data of ${nameOf(entry)} has a negative length`);
    return length;
  }
}

/** The integer at a position, when it is positive and all there; else 0 or less: to be read the careful way. */
function fastInt(chunk: Buffer, position: number, intSize: number): number {
  if (intSize !== 4 || chunk[position] !== 0) return 0;
  return (
    (chunk[position + 1] ?? 0) |
    ((chunk[position + 2] ?? 0) << 8) |
    ((chunk[position + 3] ?? 0) << 16) |
    ((chunk[position + 4] ?? 0) << 24)
  );
}

function nameOf(entry: TocEntry): string {
  const namespace = archiveText(entry.namespace);
  return `${archiveText(entry.description)} ${namespace === '' ? '' : `${namespace}.`}${archiveText(entry.tag)}`;
}

function cut(where: string): CellarError {
  return new CellarError('damaged', `The archive of pg_dump ends within ${where}.`);
}

function malformed(what: string): CellarError {
  return new CellarError('damaged', `The archive of pg_dump is malformed: ${what}.`);
}
