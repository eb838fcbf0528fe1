/**
 * A dump of a PostgreSQL database in parts: the coordinator's snapshot, pg_dump for the definitions and the small tables, own COPYs for
 * the large ones, all of one moment. `finish` puts what came back together and proves it whole before anybody calls it a backup.
 */
import { CellarError } from '../../errors.ts';
import type { Dump, DumpFilters, DumpOptions, SourceFacts, TableName } from '../engine.ts';
import { toolEnvironment } from './connection.ts';
import { assembleEntries } from './dump-assembly.ts';
import { type DumpPlan, namesBySchema, PLAN_SIZES, type PlanSizes, planDump } from './dump-plan.ts';
import type { PostgresTask, TaskSpec } from './dump-task.ts';
import { globalsRun, WITHOUT_PASSWORDS_WARNING } from './globals.ts';
import { rowsEntryName } from './locator.ts';
import { exactTablesPattern } from './pattern.ts';
import { openSnapshot, type Snapshot } from './snapshot.ts';
import { readSourceFacts } from './source-facts.ts';
import { parseTarget, type Target } from './target.ts';
import type { ToolRun } from './tool-process.ts';
import { findTool, type Tool } from './tools.ts';

/** Names to one option: the server matches them as one expression, and pg_dump asks it once for each. */
const NAMES_PER_PATTERN = 100;

/** See `Engine.openDump`. The cuts depend on `sizes` and the tables alone, never on the number of jobs. */
export async function openDump(
  url: string,
  options: DumpOptions,
  signal: AbortSignal,
  sizes: PlanSizes = PLAN_SIZES,
): Promise<Dump> {
  const target = parseTarget(url);
  const snapshot = await openSnapshot(target, options, signal);
  try {
    const { connection } = snapshot;
    const pgDump = await findTool('pg_dump', connection.serverMajor, signal);
    const pgDumpall = options.globals ? await findTool('pg_dumpall', connection.serverMajor, signal) : undefined;
    const facts = await readSourceFacts(connection, [pgDump, ...(pgDumpall === undefined ? [] : [pgDumpall])]);
    refuseUntranslatable(options.filters, facts.source.encoding);
    const plan = planDump(snapshot.tables, sizes);
    const tasks: PostgresTask[] = [
      archiveTask(target, pgDump, snapshot, plan, facts.largeObjectBytes, options),
      ...copyTasks(target, snapshot, plan, facts.source.encoding, options),
    ];
    const warnings = [...facts.source.warnings];
    if (pgDumpall !== undefined) {
      const { superuser } = facts;
      tasks.push(
        task('roles and tablespaces', 10_000, {
          kind: 'globals',
          run: globalsRun(target, pgDumpall, superuser, options.stallTimeoutMs),
        }),
      );
      if (!superuser) warnings.push(WITHOUT_PASSWORDS_WARNING);
    }
    const source: SourceFacts = { ...facts.source, warnings };
    return {
      source,
      tasks,
      lost: snapshot.lost,
      async finish(parts) {
        await snapshot.verifyHeld();
        return assembleEntries(source, snapshot.tables, plan, parts);
      },
      async [Symbol.asyncDispose]() {
        await snapshot[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await snapshot[Symbol.asyncDispose]();
    throw error;
  }
}

function task(title: string, estimatedBytes: number, spec: TaskSpec): PostgresTask {
  return { engine: 'postgres', title, estimatedBytes, spec };
}

function archiveTask(
  target: Target,
  tool: Tool,
  snapshot: Snapshot,
  plan: DumpPlan,
  largeObjectBytes: number,
  options: DumpOptions,
): PostgresTask {
  const keptFromPgDump = namesBySchema(plan.copied.map(({ table }) => table));
  const exclusions = [...keptFromPgDump].flatMap(([schema, names]) =>
    Array.from({ length: Math.ceil(names.length / NAMES_PER_PATTERN) }, (_, index) =>
      exactTablesPattern(schema, names.slice(index * NAMES_PER_PATTERN, (index + 1) * NAMES_PER_PATTERN)),
    ),
  );
  const run: ToolRun = {
    tool,
    args: [
      '--format=custom',
      '--compress=0',
      '--no-password',
      `--snapshot=${snapshot.id}`,
      `--lock-wait-timeout=${Math.max(0, Math.round(options.lockTimeoutMs))}`,
      ...filterArguments(options.filters),
      ...exclusions.map((pattern) => `--exclude-table-data=${pattern}`),
    ],
    env: { ...toolEnvironment(target), PGOPTIONS: '-c bytea_output=hex -c jit=off' },
    input: false,
    stallTimeoutMs: options.stallTimeoutMs,
  };
  const tables = new Map<number, TableName>(snapshot.tables.map(({ oid, schema, name }) => [oid, { schema, name }]));
  const estimatedBytes = plan.archivedBytes + largeObjectBytes + 100_000 + snapshot.tables.length * 1500;
  return task('definitions and small tables', estimatedBytes, { kind: 'archive', run, tables });
}

function copyTasks(
  target: Target,
  snapshot: Snapshot,
  plan: DumpPlan,
  encoding: string,
  options: DumpOptions,
): readonly PostgresTask[] {
  const { lockTimeoutMs, stallTimeoutMs } = options;
  const source = { target, snapshotId: snapshot.id, encoding, lockTimeoutMs, stallTimeoutMs };
  return plan.copies.map((pieces) => {
    const names = [...new Set(pieces.map(({ table }) => rowsEntryName(table.schema, table.name)))];
    const title = names.length > 3 ? `${names.slice(0, 2).join(', ')} and ${names.length - 2} more` : names.join(', ');
    const estimatedBytes = pieces.reduce((sum, piece) => sum + piece.estimatedBytes, 0);
    return task(title, estimatedBytes, { kind: 'copy', source, pieces });
  });
}

/** As pg_dump's options; the same filters in its own script dump. */
export function filterArguments(filters: DumpFilters): readonly string[] {
  return [
    // Without it a misspelt name among others is left out in silence, and the backup lacks what it was taken for.
    ...(filters.includeSchemas.length + filters.includeTables.length > 0 ? ['--strict-names'] : []),
    ...filters.includeSchemas.map((pattern) => `--schema=${pattern}`),
    ...filters.excludeSchemas.map((pattern) => `--exclude-schema=${pattern}`),
    ...filters.includeTables.map((pattern) => `--table=${pattern}`),
    ...filters.excludeTables.map((pattern) => `--exclude-table=${pattern}`),
    ...filters.excludeTableData.map((pattern) => `--exclude-table-data=${pattern}`),
    ...(filters.schemaOnly ? ['--schema-only'] : []),
  ];
}

/** Arguments reach pg_dump as UTF-8, and the server reads them in the database's encoding. */
export function refuseUntranslatable(filters: DumpFilters, encoding: string): void {
  if (encoding === 'UTF8') return;
  const patterns = filterArguments(filters).filter((argument) => !/^[\x20-\x7e]*$/.test(argument));
  if (patterns.length === 0) return;
  throw new CellarError('invalid-input', `In a database encoded in ${encoding}, a filter must be written in ASCII.`, {
    hint: 'Write ? in place of each other character.',
  });
}
