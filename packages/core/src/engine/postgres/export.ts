/**
 * A backup as one file of PostgreSQL's own tools: an archive for pg_restore (`dump`), or a script for psql (`sql`), which pg_restore
 * makes of that archive as it streams. Nothing is kept on a disk in between.
 */
import { CellarError } from '../../errors.ts';
import type { BackupContents, ExportFormat } from '../engine.ts';
import type { TocEntry } from './archive.ts';
import { type ComposedEntry, composeArchive, tableDataEntry, withTableData } from './archive-writer.ts';
import { planDefinitions } from './definitions.ts';
import { readStoredArchive, type StoredArchive } from './stored-archive.ts';
import { startTool } from './tool-process.ts';
import { findTool } from './tools.ts';

/** See `Engine.export`. An archive has the places of its blocks in it where sizes are known, so that `pg_restore -j` can use it. */
export async function* exportBackup(
  contents: BackupContents,
  format: ExportFormat,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const script = contents.entries.find(({ kind }) => kind === 'script');
  if (script !== undefined) {
    if (format === 'sql') return yield* contents.open(script, signal);
    throw new CellarError('invalid-input', 'This backup is a script, of which no archive for pg_restore can be made.', {
      hint: 'Export it as sql.',
    });
  }
  const stored = await readStoredArchive(contents, signal);
  if (format === 'dump') return yield* archiveOf(stored, true, signal);
  yield* scriptOf(stored, signal);
}

/** The whole archive. Entries of tables that Cellar copied itself are made anew; the rest is as pg_dump wrote it. */
async function* archiveOf(stored: StoredArchive, offsets: boolean, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield* composeArchive(stored.toc.header, composedEntries(stored, signal), { offsets });
}

export function composedEntries(stored: StoredArchive, signal: AbortSignal): readonly ComposedEntry[] {
  const { contents, toc } = stored;
  const made: TocEntry[] = [];
  const rowsOf = new Map<TocEntry, ComposedEntry['block']>();
  let nextId = toc.entries.reduce((highest, { dumpId }) => Math.max(highest, dumpId), 0) + 1;
  for (const { entry, dataEntry, tableEntry, copyStatement, size, tableOid } of stored.rows) {
    const block = { kind: 'rows' as const, size, bytes: contents.open(entry, signal) };
    if (dataEntry !== undefined) {
      rowsOf.set(dataEntry, block);
    } else if (tableEntry !== undefined) {
      const own = tableDataEntry(toc.header, tableEntry, nextId++, tableOid, copyStatement);
      made.push(own);
      rowsOf.set(own, block);
    }
  }
  for (const { entry, dataEntries } of stored.largeObjects) {
    const [first, ...more] = dataEntries;
    if (first === undefined) continue;
    // Several blocks in one stream: each says itself where it ends, and they are told apart as they pass.
    const split = more.length === 0 ? undefined : new BlockSplitter(contents.open(entry, signal), toc.header.intSize);
    for (const dataEntry of dataEntries) {
      rowsOf.set(dataEntry, {
        kind: 'large-objects',
        size: split === undefined ? contents.sizeOf(entry) : undefined,
        bytes: split === undefined ? contents.open(entry, signal) : split.nextBlock(),
      });
    }
  }
  return withTableData(toc.entries, made).map((entry) => {
    const block = rowsOf.get(entry);
    if (block === undefined && entry.hasData) {
      throw new CellarError('damaged', `The backup lacks the data of an entry of its archive (${entry.dumpId}).`);
    }
    return block === undefined ? { entry } : { entry, block };
  });
}

/** `(oid, (length, bytes)…, 0)…, 0`, several times over, in one stream: hands out one such block after the other. */
export class BlockSplitter {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #intBytes: number;
  #chunk: Uint8Array = new Uint8Array();
  #position = 0;

  constructor(bytes: AsyncIterable<Uint8Array>, intSize: number) {
    this.#source = bytes[Symbol.asyncIterator]();
    this.#intBytes = intSize + 1;
  }

  async *nextBlock(): AsyncGenerator<Uint8Array> {
    for (let inObject = false; ; ) {
      const int = await this.#int();
      yield int.bytes;
      if (int.value === 0) {
        if (!inObject) return;
        inObject = false;
      } else if (!inObject) {
        inObject = true;
      } else {
        for (let left = int.value; left > 0; ) {
          const piece = await this.#some(left);
          left -= piece.length;
          yield piece;
        }
      }
    }
  }

  async #int(): Promise<{ readonly value: number; readonly bytes: Uint8Array }> {
    const bytes = Buffer.alloc(this.#intBytes);
    for (let index = 0; index < bytes.length; index++) bytes[index] = (await this.#some(1))[0] ?? 0;
    let value = 0;
    for (let index = bytes.length - 1; index > 0; index--) value = value * 256 + (bytes[index] ?? 0);
    return { value, bytes };
  }

  async #some(count: number): Promise<Uint8Array> {
    while (this.#position === this.#chunk.length) {
      const { value, done } = await this.#source.next();
      if (done === true) throw new CellarError('damaged', 'The stored stream of large objects ends in the middle.');
      this.#chunk = value;
      this.#position = 0;
    }
    const piece = this.#chunk.subarray(this.#position, this.#position + count);
    this.#position += piece.length;
    return piece;
  }
}

/** What pg_dump's scripts end with: without it, something stopped in between. */
const COMPLETE = '-- PostgreSQL database dump complete';

async function* scriptOf(stored: StoredArchive, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const pgRestore = await findTool('pg_restore', stored.contents.source.serverMajor, signal);
  await using tool = await startTool(
    { tool: pgRestore, args: ['--exit-on-error', '--file=-'], env: {}, input: true, stallTimeoutMs: 0 },
    signal,
  );
  const entries = eventTriggersLast(stored, composedEntries(stored, signal));
  const feeding = feed(tool, composeArchive(stored.toc.header, entries, { offsets: false }));
  // Whoever fails first is told below; the other must not count as unhandled.
  feeding.catch(() => undefined);
  let tail = Buffer.alloc(0);
  try {
    for await (const piece of tool.output) {
      tail = Buffer.concat([tail, piece]).subarray(-4096);
      yield piece;
    }
  } catch (error) {
    // A stream that could not be read makes pg_restore fail too; its own complaint says less.
    await feeding;
    throw error;
  }
  await feeding;
  await tool.finish();
  if (!tail.includes(COMPLETE)) {
    throw new CellarError(
      'tool-failed',
      'pg_restore ended well, but its script lacks the closing line: it is not whole.',
    );
  }
}

/** pg_dump writes them before the REFRESH of materialized views, which they would fire on: a restore would then do what nobody did. */
function eventTriggersLast(stored: StoredArchive, entries: readonly ComposedEntry[]): readonly ComposedEntry[] {
  const late = new Set(planDefinitions(stored)['event-triggers']);
  return [...entries.filter(({ entry }) => !late.has(entry)), ...entries.filter(({ entry }) => late.has(entry))];
}

/** On a failure of the source the tool's input is ended, so that the tool ends too (with an error: its archive is cut). */
async function feed(tool: Awaited<ReturnType<typeof startTool>>, archive: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    for await (const piece of archive) await tool.write(piece);
  } finally {
    await tool.endInput();
  }
}
