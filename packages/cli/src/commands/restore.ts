/** `cellar restore`: puts a backup back into a database, so that a failure changes nothing. */
import { availableParallelism } from 'node:os';
import type { BackupContents, RestoreMode, RestoreOptions, RestoreReport } from '@cellar/core';
import { type Command, Option } from 'commander';
import { confirmByName } from '../confirm.ts';
import type { Context } from '../context.ts';
import { openBackup } from '../open.ts';
import {
  addOutputOptions,
  addPlaceOptions,
  databaseUrl,
  type FolderOptions,
  type RepositoryOptions,
} from '../options.ts';
import { formatCount, formatDuration, formatThings, formatTime, printable } from '../output/format.ts';
import { collect, duration, filled, type ParsedTableName, tableName, wholeNumber } from '../parse.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface Options extends RepositoryOptions, FolderOptions {
  readonly to: string;
  readonly mode?: RestoreMode;
  readonly table: readonly ParsedTableName[];
  readonly intoSchema?: string;
  readonly jobs: number;
  readonly schemaOnly?: boolean;
  readonly dataOnly?: boolean;
  /** commander's way with `--no-…`: true unless it was given. */
  readonly owner: boolean;
  readonly privileges: boolean;
  readonly globals?: boolean;
  readonly prove?: boolean;
  readonly acceptPart?: boolean;
  readonly stallTimeout: number;
  readonly yes?: boolean;
}

const DEFAULT_JOBS = Math.min(4, availableParallelism());

export function registerRestore(program: Command, run: Run): void {
  const command = program
    .command('restore')
    .summary('restore a backup into a database')
    .description(
      'Restores a backup. By default it is loaded beside the live database, compared, and swapped in by renaming; whatever fails on the way leaves the live database as it was.',
    )
    .argument('<backup>', 'an id, a unique start of one, a file name, latest, or NAME@latest')
    .requiredOption(
      '-t, --to <database-url>',
      'the database to restore to, or env:NAME for the URL in that variable',
      filled,
    );
  addPlaceOptions(command)
    .addOption(
      new Option(
        '--mode <mode>',
        'swap: load beside, then rename (default); in-place: within the database, in one transaction; new: into a database that must not exist yet',
      ).choices(['swap', 'in-place', 'new']),
    )
    .option(
      '--table <table>',
      'only this table, with its indexes and constraints; may be repeated (default mode: in-place)',
      collect(tableName),
      [],
    )
    .option(
      '--into-schema <schema>',
      'with --table: restore into this schema, beside what is there (default mode: new, which replaces nothing)',
      filled,
    )
    .option('-j, --jobs <n>', 'how many connections load at once', wholeNumber(1, 64), DEFAULT_JOBS)
    .option('--prove', 'compare the rows of every table with the stored ones, not only their number')
    .option('--schema-only', 'definitions, no rows')
    .option('--data-only', 'rows, no definitions')
    .option('--no-owner', 'everything belongs to the user who restores')
    .option('--no-privileges', 'no GRANTs')
    .option('--globals', 'create roles and tablespaces of the backup that are missing')
    .option('--stall-timeout <time>', 'give up when nothing moves for so long', duration, 600_000)
    .option('--accept-part', 'with --yes: replace a database also by a backup that filters left only a part of')
    .option('-y, --yes', 'do not ask before replacing something');
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ cellar restore latest --repo /srv/backups --to postgres://app@localhost/shop
  $ cellar restore latest --repo /srv/backups --to env:DATABASE_URL --prove --yes
  $ cellar restore shop@latest --repo /srv/backups --to postgres://app@localhost/rehearsal --mode new
  $ cellar restore 01JC6Q --repo /srv/backups --to env:DATABASE_URL --table orders --into-schema rescued
  $ cellar restore shop_backup_20241108_020000.sql.gz --dir ./backups --to env:DATABASE_URL`,
    )
    .action(run(restore));
}

async function restore(context: Context, name: string, options: Options): Promise<void> {
  refuseContradictions(options);
  const { engineForUrl, restoreBackup } = await import('@cellar/core');
  const { output, signal } = context;
  const url = databaseUrl(context, options.to);
  const target = (await engineForUrl(url)).describe(url);
  const mode = options.mode ?? defaultMode(options);

  await using backup = await openBackup(context, name, options);
  const title = `the backup ${backup.title} of ${printable(backup.database)}, taken ${formatTime(backup.createdAt)}`;
  await confirmByName(context, {
    consequence: `${consequenceOf(mode, options, `${target.database} at ${target.host}:${target.port}`)} with ${title}.${missingOf(backup.contents, options)}`,
    name: target.database,
    yes: (options.yes ?? false) || mode === 'new',
  });

  using progress = context.startProgress();
  const startedAt = performance.now();
  const report = await restoreBackup({
    url,
    contents: backup.contents,
    // Who was asked has read what the backup does not hold.
    options: { ...restoreOptions(mode, options), acceptPart: options.acceptPart ?? !options.yes },
    onProgress: progress.onProgress,
    signal,
  });
  progress.stop();
  const took = performance.now() - startedAt;
  for (const warning of report.warnings) output.warn(printable(warning));
  output.result({
    json: () => reportJson(report, backup.title, took),
    text: () => reportText(context, report, options.table.length > 0, title, took),
    quiet: () => report.database,
  });
}

/** Into another schema nothing is replaced unless it is asked for: whoever names one wants what is there left alone. */
function defaultMode({ table, intoSchema }: Options): RestoreMode {
  if (intoSchema !== undefined) return 'new';
  return table.length > 0 ? 'in-place' : 'swap';
}

/** What will not be there afterwards, in sentences. */
function missingOf({ part }: BackupContents, options: Options): string {
  if (options.table.length > 0 || options.dataOnly) return '';
  return [
    part === undefined
      ? ''
      : ` The backup holds only a part of its database (${printable(part)}): the rest will not be there.`,
    options.schemaOnly ? ' Only definitions are restored: no rows will be there.' : '',
  ].join('');
}

function consequenceOf(mode: RestoreMode, options: Options, database: string): string {
  if (options.table.length > 0) {
    const where = options.intoSchema === undefined ? '' : ` in the schema ${printable(options.intoSchema)}`;
    return `This replaces ${formatThings(options.table.length, 'table')}${where} of the database ${database}`;
  }
  if (mode === 'swap') return `This replaces the database ${database} (which is kept under another name)`;
  return `This replaces the contents of the database ${database}, which are not kept,`;
}

function restoreOptions(mode: RestoreMode, options: Options): RestoreOptions {
  return {
    mode,
    ...(options.table.length === 0 ? {} : { tables: options.table }),
    ...(options.intoSchema === undefined ? {} : { intoSchema: options.intoSchema }),
    content: options.schemaOnly ? 'schema' : options.dataOnly ? 'data' : 'all',
    owners: options.owner ? 'keep' : 'drop',
    privileges: options.privileges ? 'keep' : 'drop',
    globals: options.globals ?? false,
    jobs: options.jobs,
    prove: options.prove ?? false,
    stallTimeoutMs: options.stallTimeout,
    now: new Date(),
  };
}

function refuseContradictions(options: Options): void {
  if (options.schemaOnly && options.dataOnly) {
    throw new UsageError('--schema-only and --data-only leave nothing to restore.', 'Give one of them, or neither.');
  }
  if (options.intoSchema !== undefined && options.table.length === 0) {
    throw new UsageError('--into-schema is for chosen tables.', 'Name them with --table.');
  }
  if (options.table.length > 0 && options.mode === 'swap') {
    throw new UsageError(
      '--mode swap replaces a whole database, and --table asks for some tables.',
      'Leave the mode out, and the tables are restored within the database.',
    );
  }
}

function reportJson(report: RestoreReport, backup: string, took: number) {
  return {
    backup,
    database_name: report.database,
    mode: report.mode,
    duration_seconds: took / 1000,
    previous:
      report.previous === undefined
        ? null
        : {
            database: report.previous.database,
            go_back: [...report.previous.goBack],
            remove: [...report.previous.remove],
          },
    tables: report.tables.map(({ table, expectedRows, restoredRows, rowDigest }) => ({
      schema: table.schema,
      name: table.name,
      expected_rows: expectedRows ?? null,
      restored_rows: restoredRows,
      row_digest: rowDigest ?? null,
    })),
    phases: report.phases.map(({ phase, seconds }) => ({ phase, seconds })),
    warnings: [...report.warnings],
  };
}

function reportText(
  context: Context,
  report: RestoreReport,
  chosenTables: boolean,
  title: string,
  took: number,
): string {
  const { output } = context;
  const rows = report.tables.reduce((sum, table) => sum + table.restoredRows, 0);
  const proven = report.tables.filter((table) => table.rowDigest !== undefined).length;
  const counted = report.tables.filter((table) => table.expectedRows !== undefined).length;
  const tables = formatThings(report.tables.length, 'table');
  const database = output.style('bold', printable(report.database));
  const lines = [
    `Restored ${chosenTables ? `${tables} of ${database}` : database} from ${title}.`,
    `${tables}, ${formatCount(rows)} rows, in ${formatDuration(took)}${longPhases(report, took)}.`,
  ];
  if (proven > 0) {
    const words = `Proven: the rows of ${formatThings(proven, 'table')} are the very rows that were backed up.`;
    lines.push(output.style('green', words));
  } else if (counted > 0) {
    lines.push(`Checked: as many rows as were backed up, in ${formatThings(counted, 'table')}.`);
  }
  if (report.previous !== undefined) {
    const { database, goBack, remove } = report.previous;
    lines.push(
      `The database as it was before is kept as ${output.style('bold', printable(database))}.`,
      'To go back to it, in psql while connected to another database:',
      ...goBack.map(asStatement),
      'To remove it:',
      ...remove.map(asStatement),
    );
  }
  return lines.join('\n');
}

/** Where the time went: the phases that took a tenth of it or more. */
function longPhases(report: RestoreReport, took: number): string {
  const long = report.phases.filter(({ seconds }) => seconds * 10_000 >= took);
  if (long.length === 0) return '';
  return ` (${long.map(({ phase, seconds }) => `${phase} ${formatDuration(seconds * 1000)}`).join(', ')})`;
}

function asStatement(sql: string): string {
  return `  ${sql.replace(/;?\s*$/, ';')}`;
}
