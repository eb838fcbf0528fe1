/**
 * Cuts the tables of a dump into tasks: which are left to pg_dump, which are copied on own connections, and where a giant one is cut.
 * The cuts depend on nothing but the table, so that a backup with four jobs repeats the segments of one with a single job.
 *
 *   small, or not safe to copy      ─▶ pg_dump's archive, one task
 *   from 1 MiB                      ─▶ several tables to a task, so that a connection is worth its login
 *   larger than one segment         ─▶ fixed page ranges, the last one open; a task each
 */
import type { TableName } from '../engine.ts';
import type { SourceTable } from './tables.ts';

/** A COPY and the place of its rows. Plain data. */
export interface CopyPiece {
  readonly oid: number;
  readonly table: TableName;
  readonly segment: number;
  readonly statement: string;
  /** pg_dump's own, to load the rows again; base64. */
  readonly copyStatement: string;
  readonly estimatedBytes: number;
}

export interface DumpPlan {
  /** Each inner list is one task. */
  readonly copies: readonly (readonly CopyPiece[])[];
  /** Tables that `copies` cover, with the number of their segments. */
  readonly copied: readonly { readonly table: SourceTable; readonly segments: number }[];
  /** Bytes that are left to pg_dump, estimated. */
  readonly archivedBytes: number;
}

/** Where a dump is cut; a parameter so that tests can cut small tables too. */
export interface PlanSizes {
  /** Below this a table costs less within pg_dump's stream than it would as a statement of its own. */
  readonly copyFromBytes: number;
  /** Of heap and TOAST; at the default block size and without TOAST, 64 MiB are 8192 pages. */
  readonly segmentBytes: number;
  /** However much of a page is TOAST, no fewer pages to a segment. */
  readonly minSegmentPages: number;
  /** Several small tables make a task of about this size. */
  readonly taskBytes: number;
}

export const PLAN_SIZES: PlanSizes = {
  copyFromBytes: 1024 * 1024,
  segmentBytes: 64 * 1024 * 1024,
  minSegmentPages: 64,
  taskBytes: 48 * 1024 * 1024,
};

/** Tables kept from pg_dump are named in its arguments, whose length the system bounds; the smaller ones then stay with it. */
const MAX_COPIED_NAMES_BYTES = 512 * 1024;

export function planDump(tables: readonly SourceTable[], sizes: PlanSizes): DumpPlan {
  const copied: { table: SourceTable; segments: number }[] = [];
  const pieces: CopyPiece[] = [];
  let archivedBytes = 0;
  let namesBytes = 0;
  for (const table of [...tables].sort((a, b) => b.bytes - a.bytes || a.oid - b.oid)) {
    if (!table.withData) continue;
    namesBytes += Buffer.byteLength(table.schema) + Buffer.byteLength(table.name) + 40;
    if (!table.copiable || table.bytes < sizes.copyFromBytes || namesBytes > MAX_COPIED_NAMES_BYTES) {
      archivedBytes += table.bytes;
      continue;
    }
    const ofTable = piecesOf(table, sizes);
    copied.push({ table, segments: ofTable.length });
    pieces.push(...ofTable);
  }
  return { copies: group(pieces, sizes.taskBytes), copied, archivedBytes };
}

/** The tables' names by schema, as `exactTablesPattern` takes them. */
export function namesBySchema(tables: readonly SourceTable[]): ReadonlyMap<string, readonly string[]> {
  const bySchema = new Map<string, string[]>();
  for (const { schema, name } of tables) {
    const names = bySchema.get(schema);
    if (names === undefined) bySchema.set(schema, [name]);
    else names.push(name);
  }
  return bySchema;
}

function piecesOf(table: SourceTable, sizes: PlanSizes): readonly CopyPiece[] {
  const common = {
    oid: table.oid,
    table: { schema: table.schema, name: table.name },
    copyStatement: table.copyStatement,
  };
  const segmentPages = pagesPerSegment(table, sizes);
  const segments = table.splittable ? Math.max(1, Math.ceil(table.pages / segmentPages)) : 1;
  if (segments === 1) {
    const statement = `COPY ${table.qualifiedName} (${table.columns}) TO STDOUT`;
    return [{ ...common, segment: 0, statement, estimatedBytes: table.bytes }];
  }
  return Array.from({ length: segments }, (_, segment) => {
    const from = segment * segmentPages;
    const to = from + segmentPages;
    // The last piece is open: the relation's size is not part of the snapshot.
    const until = segment === segments - 1 ? '' : ` AND ctid < '(${to},0)'`;
    const pages = Math.min(table.pages, to) - from;
    return {
      ...common,
      segment,
      statement: `COPY (SELECT ${table.columns} FROM ONLY ${table.qualifiedName} WHERE ctid >= '(${from},0)'${until}) TO STDOUT`,
      estimatedBytes: Math.round((table.bytes * pages) / table.pages),
    };
  });
}

/** A power of two, so that a small change of the share that TOAST has moves no cut. */
function pagesPerSegment(table: SourceTable, sizes: PlanSizes): number {
  const bytesPerPage = table.bytes / Math.max(1, table.pages);
  return Math.max(sizes.minSegmentPages, 2 ** Math.round(Math.log2(sizes.segmentBytes / bytesPerPage)));
}

/** Pieces in the order given, as many to a task as reach its size. */
function group(pieces: readonly CopyPiece[], taskBytes: number): readonly (readonly CopyPiece[])[] {
  const tasks: CopyPiece[][] = [];
  let current: CopyPiece[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    current.push(piece);
    bytes += piece.estimatedBytes;
    if (bytes < taskBytes) continue;
    tasks.push(current);
    current = [];
    bytes = 0;
  }
  if (current.length > 0) tasks.push(current);
  return tasks;
}
