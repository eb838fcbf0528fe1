/**
 * Fills a new, empty database that nobody else uses from a backup, and compares it: the part that swap and new share.
 *
 *   pre-data ─▶ rows on N connections ─▶ sequences, large objects ─▶ post-data -j N ─▶ privileges ─▶ materialized views
 *     ─▶ event triggers ─▶ counts (digests), ANALYZE
 */
import { totalmem } from 'node:os';
import { CellarError, isCellarError } from '../../errors.ts';
import type { RestoredTable, RestoreOptions, RestoreReport, TableName } from '../engine.ts';
import { archiveText, type TocEntry } from './archive.ts';
import { type Connection, connect } from './connection.ts';
import {
  type DefinitionOptions,
  type DefinitionPhase,
  type DefinitionPlan,
  planDefinitions,
  restoreDefinitions,
} from './definitions.ts';
import { RestoredDigests } from './digest-restored.ts';
import { EarlyIndexes } from './early-indexes.ts';
import { inParallel, together } from './in-parallel.ts';
import { loadLargeObjects } from './large-objects-in.ts';
import { type LoadOptions, loadRows, loadSessionSql, type StoredDigests } from './load.ts';
import type { Phases } from './phases.ts';
import { postDataStages } from './post-data-stages.ts';
import { watchForLocks } from './restore-watch.ts';
import type { StoredArchive, StoredRows } from './stored-archive.ts';
import type { Target } from './target.ts';
import { findTool } from './tools.ts';
import {
  type CheckedTable,
  checkedTables,
  checkSequencesAndObjects,
  compareDigests,
  countTable,
  quotedName,
  restoredTable,
  rowsBefore,
  storedDigest,
  tablesToAnalyze,
  tellTable,
} from './verify-restored.ts';

export interface FillSelection {
  readonly isChosen: (entry: TocEntry) => boolean;
  readonly rows: readonly StoredRows[];
  readonly largeObjects: boolean;
}

export async function fillDatabase(
  scratch: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
  selection: FillSelection = { isChosen: () => true, rows: stored.rows, largeObjects: true },
): Promise<{ readonly tables: RestoreReport['tables']; readonly warnings: readonly string[] }> {
  const withRows = options.content !== 'schema';
  const plan = planDefinitions(stored, (entry) => selection.isChosen(entry) && (withRows || !isData(entry)));
  const definition = await definitionOptions(scratch, stored, options, signal);
  const warnings: string[] = [];
  const early = new EarlyIndexes(stored, plan['post-data']);
  const buildEarly = async (own: AbortSignal): Promise<boolean> => {
    const entries = early.take();
    if (entries === undefined) return false;
    warnings.push(...warningsOf(await restoreDefinitions(scratch, stored, entries, definition, own)));
    return true;
  };
  const define = async (phase: DefinitionPhase, own = signal, within = phases) => {
    const entries = plan[phase].filter((entry) => !early.isTaken(entry));
    if (entries.length === 0) return;
    const stages = phase === 'post-data' ? postDataStages(stored, entries) : [{ entries, parallel: false }];
    await within.run(phase, async () => {
      await using watch = await watchForLocks(scratch, options.stallTimeoutMs, own);
      for (const stage of stages) {
        const jobs = stage.parallel ? options.jobs : 1;
        const said = await restoreDefinitions(scratch, stored, stage.entries, { ...definition, jobs }, watch.signal);
        warnings.push(...warningsOf(said));
      }
    });
  };

  await define('pre-data');
  const before = withRows ? await extensionRows(scratch, selection.rows, signal) : new Map<string, number>();
  // Sequences and large objects need no rows of tables, and wait for the server more than it works: they come along.
  const beside = phases.beside();
  const [digests] = await together(
    signal,
    async (own): Promise<StoredDigests> => {
      if (!withRows) return new Map();
      const digests = await fillRows(scratch, stored, options, phases, own, selection.rows, early, buildEarly);
      beside.reveal();
      return digests;
    },
    async (own) => {
      await define('data', own, beside.phases);
      if (!withRows || !selection.largeObjects || stored.largeObjects.length === 0) return;
      const work = async () => await fillLargeObjects(scratch, stored, beside.phases, own);
      await beside.phases.run('large-objects', work);
    },
  );
  await define('post-data');
  await define('privileges');
  if (withRows) await define('materialized-views');
  await define('event-triggers');
  if (!withRows) return { tables: [], warnings };
  const tables = await phases.run(
    'compare',
    async () => await compare(scratch, stored, options, phases, { digests, before }, plan, selection, signal),
  );
  warnings.push(...(await phases.run('analyze', async () => await analyze(scratch, options.jobs, signal))));
  return { tables, warnings };
}

export function isData(entry: TocEntry): boolean {
  return (
    ['SEQUENCE SET', 'BLOB', 'BLOB METADATA'].includes(archiveText(entry.description)) ||
    archiveText(entry.tag).startsWith('LARGE OBJECT')
  );
}

async function extensionRows(
  scratch: Target,
  rows: readonly StoredRows[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  await using connection = await connect(scratch, signal);
  return await rowsBefore(connection, rows);
}

async function fillRows(
  scratch: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
  rows: readonly StoredRows[],
  early: EarlyIndexes,
  idle: (signal: AbortSignal) => Promise<boolean>,
): Promise<StoredDigests> {
  const load: LoadOptions = {
    jobs: options.jobs,
    stallTimeoutMs: options.stallTimeoutMs,
    digest: options.prove,
    fresh: true,
    onLoaded: (table) => early.loaded(table),
    idle,
  };
  return await phases.run('load', async () => await loadRows(scratch, stored, rows, load, phases.onProgress, signal));
}

async function fillLargeObjects(
  scratch: Target,
  stored: StoredArchive,
  phases: Phases,
  signal: AbortSignal,
): Promise<void> {
  await using connection = await connect(scratch, signal);
  await connection.query(loadSessionSql(connection.serverMajor), 'prepare the session');
  await fillLargeObjectsOn(connection, stored, phases, signal);
}

/** On a connection of the caller's, in its transaction if there is one. Throws `mismatch` when fewer came than the backup holds. */
export async function fillLargeObjectsOn(
  connection: Connection,
  stored: StoredArchive,
  phases: Phases,
  signal: AbortSignal,
): Promise<void> {
  let written = 0;
  for (const { entry, dataEntries } of stored.largeObjects) {
    const { objects } = await loadLargeObjects(
      connection,
      stored.toc.header,
      dataEntries.length,
      stored.contents.open(entry, signal),
      (count) => {
        written += count;
        phases.onProgress({ phase: 'large-objects', item: entry.name, bytes: written });
      },
      signal,
    );
    if (entry.rows !== undefined && objects !== entry.rows) {
      throw new CellarError('mismatch', `${objects} large objects were written, but the backup holds ${entry.rows}.`, {
        hint: 'Nothing was replaced. Run `cellar verify` on the backup.',
      });
    }
  }
}

async function compare(
  scratch: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  known: { readonly digests: StoredDigests; readonly before: ReadonlyMap<string, number> },
  plan: DefinitionPlan,
  selection: FillSelection,
  signal: AbortSignal,
): Promise<readonly RestoredTable[]> {
  const open = async (own: AbortSignal) => {
    const connection = await connect(scratch, own);
    await connection.query(loadSessionSql(connection.serverMajor), 'prepare the session');
    return connection;
  };
  await using connection = await open(signal);
  const checked = await checkedTables(connection, selection.rows);
  await using readBack = new RestoredDigests(scratch, stored, options.stallTimeoutMs, signal);
  const results = new Map<CheckedTable, RestoredTable>();
  await inParallel(bySize(checked), options.jobs, open, signal, async (own, table) => {
    const rows = await countTable(own, table, known.before);
    const digest = options.prove ? storedDigest(table, known.digests) : undefined;
    const restored = digest === undefined ? undefined : await readBack.digest(table);
    if (digest !== undefined && restored !== undefined) compareDigests(table.table, digest, restored);
    results.set(table, restoredTable(table, rows, restored));
    tellTable(phases.onProgress, 'compare', results.size, checked.length, table.table);
  });
  const included = new Set(plan.data);
  await checkSequencesAndObjects(
    connection,
    stored,
    (index) => included.has(stored.toc.entries[index] as TocEntry),
    selection.largeObjects ? expectedObjects(stored) : undefined,
  );
  return checked.flatMap((table) => results.get(table) ?? []);
}

/** undefined where the backup does not tell how many it holds. */
export function expectedObjects(stored: StoredArchive): number | undefined {
  const counts = stored.largeObjects.map(({ entry }) => entry.rows);
  return counts.every((count) => count !== undefined)
    ? counts.reduce<number>((sum, count) => sum + (count ?? 0), 0)
    : undefined;
}

function bySize(tables: readonly CheckedTable[]): readonly CheckedTable[] {
  const size = ({ stored }: CheckedTable) =>
    stored.reduce((sum, each) => sum + (each.size ?? each.expectedRows * 64), 0);
  return tables.toSorted((a, b) => size(b) - size(a));
}

/** Returns warnings: statistics are no part of the backup, so their failure is none of the restore's. */
export async function analyze(
  scratch: Target,
  jobs: number,
  signal: AbortSignal,
  only?: readonly TableName[],
): Promise<readonly string[]> {
  await using connection = await connect(scratch, signal);
  const names = only?.map(quotedName) ?? (await tablesToAnalyze(connection));
  const open = async (own: AbortSignal) => await connect(scratch, own);
  const warnings: string[] = [];
  await inParallel(names, jobs, open, signal, async (own, name) => {
    try {
      await own.query(`ANALYZE ${name}`, `analyze ${name}`);
    } catch (error) {
      if (!isCellarError(error) || own.lost.aborted) throw error;
      warnings.push(error.message);
    }
  });
  return warnings;
}

/** The first major whose pg_restore reads archives of that version (K_VERS in pg_backup_archiver.h). */
const OLDEST_READER = { '1.14': 12, '1.15': 16, '1.16': 17 } as const;

export async function definitionOptions(
  target: Target,
  stored: StoredArchive,
  options: Pick<RestoreOptions, 'owners' | 'privileges' | 'jobs'>,
  signal: AbortSignal,
): Promise<DefinitionOptions> {
  await using connection = await connect(target, signal);
  const [row] = await connection.query(
    `SELECT setting::int / 1024 AS mb FROM pg_settings WHERE name = 'maintenance_work_mem'`,
    'read the settings of the server',
  );
  return {
    // The target's own major if it can read the archive: a newer one sets what an older server refuses.
    pgRestore: await findTool(
      'pg_restore',
      Math.max(connection.serverMajor, OLDEST_READER[stored.toc.header.version]),
      signal,
    ),
    serverMajor: connection.serverMajor,
    owners: options.owners,
    privileges: options.privileges,
    jobs: 1,
    maintenanceMemoryMb: maintenanceMemory(target.host, Number(row?.['mb']), options.jobs),
  };
}

/** Each job may build one index: together they take an eighth of the memory of this machine, or half a gibibyte of one unknown. */
function maintenanceMemory(host: string, current: number, jobs: number): number {
  const isHere = host.startsWith('/') || host === 'localhost' || host === '::1' || host.startsWith('127.');
  const budget = isHere ? totalmem() / 1024 / 1024 / 8 : 512;
  return Math.max(current, Math.min(1024, Math.floor(budget / jobs)));
}

/** pg_restore's own warnings; anything else it says with exit code 0 is progress. */
function warningsOf(said: string): readonly string[] {
  return said
    .split('\n')
    .filter((line) => /^pg_restore: warning:/.test(line))
    .map((line) => line.replace('pg_restore: warning: ', ''));
}
