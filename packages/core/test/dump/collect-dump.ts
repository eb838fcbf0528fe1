/** Whole dumps in memory, for comparing: Cellar's in parts, and pg_dump's own archive of the same database. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  type Dump,
  type DumpFilters,
  type DumpOptions,
  type Entry,
  NO_FILTERS,
  type PartResult,
  type SourceFacts,
} from '../../src/engine/engine.ts';
import { readArchive } from '../../src/engine/postgres/archive-reader.ts';
import { openDump } from '../../src/engine/postgres/dump.ts';
import type { PlanSizes } from '../../src/engine/postgres/dump-plan.ts';
import { type PostgresTask, readTask } from '../../src/engine/postgres/dump-task.ts';
import type { ClusterAddress } from '../../src/testing/postgres-cluster.ts';
import type { TestDatabase } from '../harness/databases.ts';

/** Every table that may be is copied, in pieces of a page. */
export const SMALLEST_PIECES: PlanSizes = {
  copyFromBytes: 0,
  segmentBytes: 8192,
  minSegmentPages: 1,
  taskBytes: 100_000,
};

/** Nothing is copied but by pg_dump. */
export const NO_COPIES: PlanSizes = {
  copyFromBytes: Number.MAX_SAFE_INTEGER,
  segmentBytes: 8192,
  minSegmentPages: 1,
  taskBytes: 1,
};

/** Whether giant tables are read in pieces: PostgreSQL 13 would scan the whole table for each, and they are left whole there. */
export function cutsTables({ major }: ClusterAddress): boolean {
  return major >= 14;
}

export function dumpOptions(
  options: Partial<Omit<DumpOptions, 'filters'>> & { readonly filters?: Partial<DumpFilters> } = {},
): DumpOptions {
  return {
    globals: false,
    jobs: 2,
    lockTimeoutMs: 10_000,
    stallTimeoutMs: 30_000,
    ...options,
    filters: { ...NO_FILTERS, ...options.filters },
  };
}

export interface CollectedDump {
  readonly source: SourceFacts;
  readonly entries: readonly Entry[];
  readonly bytes: ReadonlyMap<string, Buffer>;
  /** Segments by entry. */
  readonly segments: ReadonlyMap<string, number>;
}

/** Reads all tasks, two at a time as threads would, and finishes the dump. */
export async function collect(dump: Dump, signal: AbortSignal): Promise<CollectedDump> {
  const queue = [...dump.tasks];
  const results: PartResult[] = [];
  const parts = new Map<string, Buffer[]>();
  const run = async (): Promise<void> => {
    for (let task = queue.shift(); task !== undefined; task = queue.shift()) {
      for await (const part of readTask((task as PostgresTask).spec, signal)) {
        const pieces: Buffer[] = [];
        for await (const piece of part.bytes) pieces.push(Buffer.from(piece));
        // As between threads: nothing but plain data gets through.
        results.push(structuredClone(part.result()));
        const segments = parts.get(part.entry) ?? [];
        segments[part.segment] = Buffer.concat(pieces);
        parts.set(part.entry, segments);
      }
    }
  };
  await Promise.all([run(), run()]);
  const { source, entries } = await dump.finish(results, signal);
  return {
    source,
    entries,
    bytes: new Map([...parts].map(([name, segments]) => [name, Buffer.concat(segments)])),
    segments: new Map([...parts].map(([name, segments]) => [name, segments.length])),
  };
}

/** A whole dump of a database. */
export async function dumpWhole(
  url: string,
  options: DumpOptions = dumpOptions(),
  sizes?: PlanSizes,
): Promise<CollectedDump> {
  const signal = AbortSignal.timeout(50_000);
  await using dump = await openDump(url, options, signal, sizes);
  return await collect(dump, signal);
}

/** pg_dump's own words for each table, without terminators, by `schema.table` in the database's encoding read as latin1. */
export async function stockRows(
  database: TestDatabase,
  extra: readonly string[] = [],
): Promise<ReadonlyMap<string, Buffer>> {
  const { cluster, name } = database;
  const { stdout } = await promisify(execFile)(join(cluster.binaries, 'pg_dump'), ['-Fc', '-Z0', ...extra], {
    env: { ...cluster.environment(name), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' },
    encoding: 'buffer',
    maxBuffer: 1 << 30,
  });
  const reader = await readArchive(inPieces(stdout, 65_536));
  const rows = new Map<string, Buffer>();
  for await (const block of reader.blocks) {
    const pieces: Buffer[] = [];
    for await (const piece of block.bytes) pieces.push(Buffer.from(piece));
    const { namespace, tag } = block.entry;
    const key = block.kind === 'rows' ? `${namespace?.toString('latin1')}.${tag?.toString('latin1')}` : 'large-objects';
    rows.set(key, Buffer.concat([...(rows.has(key) ? [rows.get(key) ?? Buffer.alloc(0)] : []), ...pieces]));
  }
  return rows;
}

export async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}
