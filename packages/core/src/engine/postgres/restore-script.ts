/**
 * Restores a script (a plain file of Cellar's, or one that another program left) by psql, in the modes of every restore. The script is
 * cleared of what must not be run (script-sanitise.ts), stopped at its first error, and loaded as one transaction; the rows are counted
 * and compared with what the script itself held.
 */
import { CellarError } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { BackupContents, Entry, RestoredTable, RestoreOptions, RestoreReport, ScriptLocator } from '../engine.ts';
import { type Connection, connect, toolEnvironment } from './connection.ts';
import { psqlScriptArguments } from './definitions.ts';
import { emptyDatabaseScript, refuseSubscriptions } from './empty-database.ts';
import { analyze } from './fill-database.ts';
import { restoreGlobals } from './globals-in.ts';
import { inParallel } from './in-parallel.ts';
import { connectExisting } from './in-place.ts';
import { Phases } from './phases.ts';
import { besideAndSwap } from './restore-beside.ts';
import { factsClauses } from './scratch.ts';
import { sanitiseScript } from './script-sanitise.ts';
import { sourceProperties } from './source-properties.ts';
import type { Target } from './target.ts';
import { refusePart } from './target-checks.ts';
import { startTool } from './tool-process.ts';
import { findTool } from './tools.ts';
import { quotedName, showName } from './verify-restored.ts';

export async function restoreScript(
  target: Target,
  contents: BackupContents,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const script = contents.entries.find(({ kind }) => kind === 'script');
  if (script === undefined) throw new CellarError('damaged', 'The backup holds no script.');
  if (options.tables !== undefined || options.content !== 'all') {
    throw new CellarError('invalid-input', 'A script can only be restored as a whole.', {
      hint: 'Restore it into a new database (mode new), and take from there what is needed.',
    });
  }
  if (options.mode === 'in-place') return await scriptInPlace(target, contents, script, options, onProgress, signal);
  return await besideAndSwap(
    target,
    {
      contents,
      options,
      onProgress,
      // A script found in a folder says nothing of the database it came from.
      properties: isOfKnownSource(contents) ? sourceProperties(contents.source) : undefined,
      createClauses: () => factsClauses(contents.source),
      prepare: async (admin, phases) =>
        options.globals ? await phases.run('globals', async () => await restoreGlobals(admin, contents, signal)) : [],
      fill: async (scratch, phases, own) => {
        const held = await phases.run(
          'load',
          async () => await runScript(scratch, contents, script, '', '', options, phases, own),
        );
        const tables = await phases.run('compare', async () => await compareScript(scratch, held, options.jobs, own));
        return { tables, warnings: await phases.run('analyze', async () => await analyze(scratch, options.jobs, own)) };
      },
    },
    signal,
  );
}

function isOfKnownSource({ source }: BackupContents): boolean {
  return typeof source.details === 'object' && source.details !== null && 'owner' in source.details;
}

/**
 * One psql session, one transaction: emptied first, and compared at the end by the server itself, which refuses the COMMIT where a
 * count differs. What the script holds is known from its sidecar, or read beforehand.
 */
async function scriptInPlace(
  target: Target,
  contents: BackupContents,
  script: Entry,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  refusePart(contents, options, target.database);
  const phases = new Phases(onProgress);
  const warnings: string[] = [];
  await using connection = await connectExisting(target, signal);
  if (options.globals) {
    warnings.push(...(await phases.run('globals', async () => await restoreGlobals(connection, contents, signal))));
  }
  await refuseSubscriptions(connection);
  const held = await phases.run('read', async () => await readThrough(contents, script, signal));
  const before = emptyDatabaseScript(connection.serverMajor);
  const after = countsScript(held);
  const loaded = await phases.run(
    'load',
    async () => await runScript(target, contents, script, before, after, options, phases, signal),
  );
  const tables = await phases.run('compare', async () => await compareScript(target, loaded, options.jobs, signal));
  warnings.push(...(await phases.run('analyze', async () => await analyze(target, options.jobs, signal))));
  return { mode: 'in-place', database: target.database, tables, phases: phases.done, warnings };
}

/** Reads the script to its end, so that a cut or unsafe one is known before anything is emptied. */
async function readThrough(contents: BackupContents, script: Entry, signal: AbortSignal): Promise<ScriptLocator> {
  const reading = sanitiseScript(contents.open(script, signal), signal);
  for (;;) {
    const { value, done } = await reading.next();
    if (done === true) return value;
  }
}

async function runScript(
  target: Target,
  contents: BackupContents,
  script: Entry,
  before: string,
  after: string,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
): Promise<ScriptLocator> {
  const { major, silencing } = await lookAtServer(target, signal);
  const psql = await findTool('psql', major, signal);
  await using tool = await startTool(
    {
      tool: psql,
      args: psqlScriptArguments(target.database),
      env: {
        ...toolEnvironment(target),
        PGOPTIONS:
          '-c default_transaction_read_only=off -c client_min_messages=warning -c statement_timeout=0 -c lock_timeout=0',
      },
      input: true,
      stallTimeoutMs: options.stallTimeoutMs,
    },
    signal,
  );
  const total = contents.sizeOf(script);
  const reading = sanitiseScript(contents.open(script, signal), signal, {
    owners: options.owners,
    privileges: options.privileges,
  });
  let bytes = 0;
  let told = 0;
  let held: ScriptLocator;
  // Not psql's --single-transaction: that commits at the end of its input, which is also what it sees when this process is killed.
  await tool.write(Buffer.from(`BEGIN;\n${before}${silencing}`));
  for (;;) {
    const { value, done } = await reading.next();
    if (done === true) {
      held = value;
      break;
    }
    await tool.write(value);
    bytes += value.length;
    if (bytes - told < 4 * 1024 * 1024) continue;
    told = bytes;
    phases.onProgress({
      phase: 'load',
      item: script.name,
      bytes,
      ...(total === undefined ? {} : { totalBytes: total }),
    });
  }
  await tool.write(Buffer.from(`\n${after}\nCOMMIT;\n`));
  await tool.endInput();
  await tool.finish();
  return held;
}

/**
 * pg_dump's scripts make event triggers before they refresh materialized views, which event triggers fire on: they would log what
 * nobody did. Only a superuser can make any, and may silence them. Before 17 this also silences ordinary triggers, of which the
 * script makes none before its rows; foreign keys are checked when they are added, whatever the setting.
 */
async function lookAtServer(
  target: Target,
  signal: AbortSignal,
): Promise<{ readonly major: number; readonly silencing: string }> {
  await using connection = await connect(target, signal);
  const [row] = await connection.query(
    'SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user',
    'look up the user',
  );
  const major = connection.serverMajor;
  if (row?.['super'] !== 't') return { major, silencing: '' };
  return {
    major,
    silencing: `SET LOCAL ${major >= 17 ? 'event_triggers = off' : 'session_replication_role = replica'};\n`,
  };
}

/**
 * How many rows of a script's table there are: of a partitioned one with its partitions, since it was loaded through; else its own.
 * undefined (NULL) for an extension's table, which has rows that were not in the script.
 */
function countSql(table: { readonly schema: string; readonly name: string }): string {
  const name = quotedName(table);
  const oid = `${literal(name)}::regclass`;
  return `SELECT CASE
    WHEN EXISTS (SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = ${oid} AND deptype = 'e') THEN NULL
    WHEN (SELECT relkind FROM pg_catalog.pg_class WHERE oid = ${oid}) = 'p' THEN (SELECT count(*) FROM ${name})
    ELSE (SELECT count(*) FROM ONLY ${name}) END`;
}

/** Ends the transaction with an error where a count differs. */
function countsScript(held: ScriptLocator): string {
  const checks = held.tables.map(
    (table) =>
      `found := (${countSql(table)}); IF found <> ${table.rows} THEN RAISE EXCEPTION 'Of % there are % rows, not ${table.rows}', ${literal(showName(table))}, found; END IF;`,
  );
  const tag = '$cellar_counts$';
  return `SET client_encoding = 'UTF8';\nDO ${tag}\nDECLARE found bigint;\nBEGIN\n${checks.join('\n')}\nEND\n${tag};\n`;
}

function literal(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** Rows as the script held them against rows as the server counts them. Throws `mismatch`. */
async function compareScript(
  target: Target,
  held: ScriptLocator,
  jobs: number,
  signal: AbortSignal,
): Promise<readonly RestoredTable[]> {
  const restored = new Map<string, RestoredTable>();
  const open = async (own: AbortSignal): Promise<Connection> => await connect(target, own);
  await inParallel(held.tables, jobs, open, signal, async (connection, table) => {
    const [row] = await connection.query(`${countSql(table)} AS rows`, `count the rows of ${showName(table)}`);
    const rows = row?.['rows'] ?? undefined;
    if (rows !== undefined && Number(rows) !== table.rows) {
      throw new CellarError(
        'mismatch',
        `${showName(table)} has ${rows} rows after the restore, but the script holds ${table.rows}.`,
        {
          hint: 'Nothing was replaced.',
        },
      );
    }
    restored.set(quotedName(table), {
      table: { schema: table.schema, name: table.name },
      expectedRows: table.rows,
      restoredRows: rows === undefined ? table.rows : Number(rows),
    });
  });
  return held.tables.flatMap((table) => restored.get(quotedName(table)) ?? []);
}
