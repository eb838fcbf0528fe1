/**
 * The tasks of a dump, and how each is read, in whatever thread: pg_dump's archive taken apart, tables copied on own connections,
 * and pg_dumpall's globals. A task is plain data.
 */

import { CellarError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import type { DumpPart, DumpTask, EntryKind, PartResult, TableName } from '../engine.ts';
import { type ArchiveToc, archiveText } from './archive.ts';
import { type ArchiveBlock, readArchive } from './archive-reader.ts';
import { type CopySource, openCopyConnection } from './copy-out.ts';
import type { CopyPiece } from './dump-plan.ts';
import { rowsEntryName } from './locator.ts';
import { schemaDigest } from './schema-digest.ts';
import { readScriptTask, type ScriptFacts, type ScriptTaskSpec } from './script-task.ts';
import { startTool, type ToolRun } from './tool-process.ts';

export type TaskSpec =
  | {
      readonly kind: 'archive';
      readonly run: ToolRun;
      /** The locked tables, by oid: what the archive's rows belong to, and how they are named. */
      readonly tables: ReadonlyMap<number, TableName>;
    }
  | { readonly kind: 'copy'; readonly source: CopySource; readonly pieces: readonly CopyPiece[] }
  | { readonly kind: 'globals'; readonly run: ToolRun }
  | ScriptTaskSpec;

/** What a part tells `Dump.finish`, as its locator on the way there. */
export type PartFacts =
  | {
      readonly part: 'schema';
      /** TABLE entries in TOC order. */
      readonly tables: readonly { readonly oid: number; readonly dumpId: number }[];
      /** How many parts of rows and large objects follow. */
      readonly blocks: number;
      readonly schemaDigest: string;
      readonly archiveVersion: string;
      readonly warnings: readonly string[];
    }
  | {
      readonly part: 'archived-rows';
      readonly oid: number;
      readonly dumpId: number;
      /** Among the data blocks, from 0. */
      readonly position: number;
      readonly warnings: readonly string[];
    }
  | { readonly part: 'copied-rows'; readonly oid: number; readonly copyStatement: string }
  | { readonly part: 'large-objects'; readonly dumpId: number; readonly warnings: readonly string[] }
  | { readonly part: 'globals'; readonly warnings: readonly string[] }
  | ScriptFacts;

/** The facts of a part that `readTask` made. */
export function factsOf(result: PartResult): PartFacts {
  return result.locator as unknown as PartFacts;
}

/** A task of this engine. */
export interface PostgresTask extends DumpTask {
  readonly spec: TaskSpec;
}

export async function* readTask(spec: TaskSpec, signal: AbortSignal): AsyncGenerator<DumpPart> {
  switch (spec.kind) {
    case 'archive':
      yield* readArchiveTask(spec.run, spec.tables, signal);
      return;
    case 'copy':
      yield* readCopyTask(spec.source, spec.pieces, signal);
      return;
    case 'globals':
      yield* readGlobalsTask(spec.run, signal);
      return;
    case 'script':
      yield* readScriptTask(spec.run, signal);
  }
}

async function* readArchiveTask(
  run: ToolRun,
  tables: ReadonlyMap<number, TableName>,
  signal: AbortSignal,
): AsyncGenerator<DumpPart> {
  await using tool = await startTool(run, signal);
  const { toc, head, blocks } = await readArchive(tool.output);
  const blockCount = toc.entries.filter((entry) => entry.hasData).length;
  let blocksLeft = blockCount;
  let warnings: readonly string[] = [];
  /** The last part is through only when pg_dump has ended well: its exit code and its warnings come after its bytes. */
  async function* endingWell(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    yield* bytes;
    if (blocksLeft === 0) warnings = warningsOf(await tool.finish());
  }

  yield part({ entry: 'schema', kind: 'schema', segment: 0 }, endingWell(once(head)), () => ({
    facts: {
      part: 'schema',
      tables: tableEntries(toc),
      blocks: blockCount,
      schemaDigest: schemaDigest(toc),
      archiveVersion: toc.header.version,
      warnings,
    },
  }));
  let largeObjectSegments = 0;
  let blocksRead = 0;
  for await (const block of blocks) {
    blocksLeft--;
    const position = blocksRead++;
    const { dumpId } = block.entry;
    if (block.kind === 'large-objects') {
      yield part(
        { entry: 'large-objects', kind: 'large-objects', segment: largeObjectSegments++ },
        endingWell(block.bytes),
        () => ({ rows: block.counts().rows, facts: { part: 'large-objects', dumpId, warnings } }),
      );
    } else {
      const { oid, table } = tableOf(block, tables);
      yield part(
        { entry: rowsEntryName(table.schema, table.name), kind: 'rows', table, segment: 0 },
        endingWell(block.bytes),
        () => ({ rows: block.counts().rows, facts: { part: 'archived-rows', oid, dumpId, position, warnings } }),
      );
    }
  }
}

async function* readCopyTask(
  source: CopySource,
  pieces: readonly CopyPiece[],
  signal: AbortSignal,
): AsyncGenerator<DumpPart> {
  await using connection = await openCopyConnection(source, signal);
  for (const { table, segment, statement, oid, copyStatement } of pieces) {
    const entry = rowsEntryName(table.schema, table.name);
    const stream = connection.copy(statement, entry);
    yield part({ entry, kind: 'rows', table, segment }, stream.bytes, () => ({
      rows: stream.rows(),
      facts: { part: 'copied-rows', oid, copyStatement },
    }));
  }
}

async function* readGlobalsTask(run: ToolRun, signal: AbortSignal): AsyncGenerator<DumpPart> {
  await using tool = await startTool(run, signal);
  let warnings: readonly string[] = [];
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield* tool.output;
    warnings = warningsOf(await tool.finish());
  }
  yield part({ entry: 'globals', kind: 'globals', segment: 0 }, bytes(), () => ({
    facts: { part: 'globals', warnings },
  }));
}

interface Place {
  readonly entry: string;
  readonly kind: EntryKind;
  readonly table?: TableName;
  readonly segment: number;
}

function part(
  place: Place,
  bytes: AsyncIterable<Uint8Array>,
  outcome: () => { readonly rows?: number; readonly facts: PartFacts },
): DumpPart {
  let length = 0;
  let ended = false;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of bytes) {
      length += piece.length;
      yield piece;
    }
    ended = true;
  }
  return {
    ...place,
    bytes: counted(),
    result(): PartResult {
      if (!ended) throw new Error(`${place.entry} has not been read to its end`);
      const { rows, facts } = outcome();
      return { ...place, ...(rows === undefined ? {} : { rows }), bytes: length, locator: facts as unknown as Json };
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Rows of a table that was not locked cannot be trusted: it may have been emptied after the snapshot. */
function tableOf(block: ArchiveBlock, tables: ReadonlyMap<number, TableName>): { oid: number; table: TableName } {
  const oid = Number(archiveText(block.entry.oid));
  const table = tables.get(oid);
  if (table !== undefined) return { oid, table };
  const name = `${archiveText(block.entry.namespace)}.${archiveText(block.entry.tag)}`;
  throw new CellarError('mismatch', `pg_dump dumped ${name}, which Cellar had not locked.`, {
    hint: 'Look whether the filters mean the same to both; without filters, this is a fault of Cellar: please report it.',
    details: { table: name },
  });
}

function tableEntries(toc: ArchiveToc): readonly { oid: number; dumpId: number }[] {
  return toc.entries
    .filter((entry) => archiveText(entry.description) === 'TABLE')
    .map((entry) => ({ oid: Number(archiveText(entry.oid)), dumpId: entry.dumpId }));
}

/** What a tool that ended well still had to say: a warning of pg_dump means that something is missing. */
export function warningsOf(stderr: string): readonly string[] {
  return stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
