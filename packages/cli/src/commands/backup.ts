/** `cellar backup`: takes a backup into a repository, or writes it as a plain file into a folder. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { AgeEncryption, DumpOptions } from '@cellar/core';
import { type Command, Option } from 'commander';
import type { Context } from '../context.ts';
import { openOrMakeFolderAt, startOpeningRepository } from '../open.ts';
import { addOutputOptions, addRepositoryOptions, databaseUrl, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatCount, formatDuration, formatShare, formatThings, printable } from '../output/format.ts';
import { backupJson, plainBackupJson } from '../output/shapes.ts';
import { collect, duration, filled, wholeNumber } from '../parse.ts';
import { askPassphrase } from '../passphrase.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface BackupOptions extends RepositoryOptions {
  readonly toDir?: string;
  readonly compress?: 'gzip' | 'zstd';
  readonly ageRecipient: readonly string[];
  readonly encrypt?: boolean;
  readonly prefix?: string;
  readonly name?: string;
  readonly description?: string;
  readonly tag: readonly string[];
  readonly jobs: number;
  readonly schema: readonly string[];
  readonly excludeSchema: readonly string[];
  readonly table: readonly string[];
  readonly excludeTable: readonly string[];
  readonly excludeTableData: readonly string[];
  readonly schemaOnly?: boolean;
  readonly globals?: boolean;
  readonly lockTimeout: number;
  readonly stallTimeout: number;
}

/** Two connections on most machines: more of them load the database, and one table rarely gains. */
const DEFAULT_JOBS = Math.min(4, availableParallelism());

export function registerBackup(program: Command, run: Run): void {
  const command = program
    .command('backup')
    .summary('back up a database')
    .description(
      'Backs up a database into a repository, storing only what its last backup there does not hold; or, with --to-dir, as one plain file that "gunzip | psql" restores.',
    )
    .argument('[database-url]', 'the database, or env:NAME for the URL in that variable (or DATABASE_URL)');
  addRepositoryOptions(command)
    .option('-n, --name <name>', "what the database's backups are listed under, when not its own name", filled)
    .option('-m, --description <text>', 'a note that is kept with the backup')
    .option('--tag <text>', 'a tag that is kept with the backup; may be repeated', collect(filled), [])
    .option('-j, --jobs <n>', 'how many connections read at once', wholeNumber(1, 64), DEFAULT_JOBS)
    .option('--schema <pattern>', 'only these schemas; may be repeated', collect(filled), [])
    .option('--exclude-schema <pattern>', 'not these schemas; may be repeated', collect(filled), [])
    .option('--table <pattern>', 'only these tables; may be repeated', collect(filled), [])
    .option('--exclude-table <pattern>', 'not these tables; may be repeated', collect(filled), [])
    .option(
      '--exclude-table-data <pattern>',
      'the definition of these tables, not their rows; may be repeated',
      collect(filled),
      [],
    )
    .option('--schema-only', 'definitions, no rows')
    .option('--globals', 'roles and tablespaces of the server too')
    .option('--lock-timeout <time>', 'give up when a table is locked for so long, e.g. 30s', duration, 60_000)
    .option('--stall-timeout <time>', 'give up when no byte arrives for so long', duration, 600_000)
    .option('--to-dir <folder>', 'write a plain file into this folder instead of a repository', filled)
    .addOption(
      new Option('--compress <how>', 'with --to-dir: how the file is compressed (default: gzip)').choices([
        'gzip',
        'zstd',
      ]),
    )
    .option('--prefix <text>', "with --to-dir: how the file's name begins, when not with the database's name", filled)
    .option(
      '--age-recipient <key>',
      'with --to-dir: encrypt for this public age key; may be repeated',
      collect(filled),
      [],
    )
    .option('-e, --encrypt', 'with --to-dir: encrypt with a passphrase, as age does');
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Patterns are those of pg_dump: * and ? stand for characters, and "schema.table" names both.

Examples:
  $ cellar backup postgres://app@localhost/shop --repo /srv/backups
  $ cellar backup --repo /srv/backups --jobs 4 --description "before the upgrade"
  $ cellar backup postgres://app@localhost/shop --repo /srv/backups --exclude-table-data 'log_*'
  $ cellar backup postgres://app@localhost/shop --to-dir ./backups
  $ cellar backup postgres://app@localhost/shop --to-dir ./backups --compress zstd --age-recipient age1…`,
    )
    .action(run(backup));
}

async function backup(context: Context, argument: string | undefined, options: BackupOptions): Promise<void> {
  refuseContradictions(options);
  const url = databaseUrl(context, argument);
  if (options.toDir === undefined) await intoRepository(context, url, options);
  else await intoFolder(context, url, options.toDir, options);
}

async function intoRepository(context: Context, url: string, options: BackupOptions): Promise<void> {
  const { backupToRepository } = await import('@cellar/core');
  const { output, signal } = context;
  await using opened = await startOpeningRepository(context, options);
  using progress = context.startProgress();
  const startedAt = performance.now();
  const manifest = await backupToRepository(opened.repository, {
    url,
    ...(options.name === undefined ? {} : { name: options.name }),
    description: options.description ?? '',
    tags: options.tag,
    options: dumpOptions(options),
    onProgress: progress.onProgress,
    signal,
  });
  progress.stop();
  const took = performance.now() - startedAt;
  const { stats, entries } = manifest;
  const tables = entries.filter((entry) => entry.kind === 'rows');
  const rows = tables.reduce((sum, entry) => sum + (entry.rows ?? 0), 0);
  for (const warning of manifest.source.warnings) output.warn(printable(warning));
  output.result({
    json: () => ({ ...backupJson(manifest), duration_seconds: took / 1000 }),
    text: () =>
      [
        `Backed up ${printable(manifest.database)} as ${output.style('bold', manifest.id)} in ${formatDuration(took)}.`,
        `${formatThings(tables.length, 'table')}, ${formatCount(rows)} rows, ${formatBytes(stats.rawBytes)}; ` +
          `new since the last backup: ${formatBytes(stats.newRawBytes)} (${formatShare(stats.newRawBytes, stats.rawBytes)}), ` +
          `stored in ${formatBytes(stats.newStoredBytes)}.`,
      ].join('\n'),
    quiet: () => manifest.id,
  });
}

async function intoFolder(context: Context, url: string, path: string, options: BackupOptions): Promise<void> {
  const { backupToFolder } = await import('@cellar/core');
  const { output, signal } = context;
  const encryption = await encryptionOf(context, options);
  await using opened = await openOrMakeFolderAt(path);
  using progress = context.startProgress();
  const startedAt = performance.now();
  const backup = await backupToFolder(opened.folder, {
    url,
    compression: options.compress ?? 'gzip',
    encryption,
    ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
    description: options.description ?? '',
    now: new Date(),
    options: dumpOptions(options),
    onProgress: progress.onProgress,
    signal,
  });
  progress.stop();
  const took = performance.now() - startedAt;
  const { fileName } = backup.name;
  const tables = backup.facts?.script.tables ?? [];
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  for (const warning of [...(backup.facts?.source.warnings ?? []), ...backup.problems]) output.warn(printable(warning));
  output.result({
    json: () => ({ ...plainBackupJson(backup), duration_seconds: took / 1000 }),
    text: () =>
      [
        `Backed up ${printable(backup.databaseName)} as ${output.style('bold', join(path, fileName))} in ${formatDuration(took)}.`,
        `${formatThings(tables.length, 'table')}, ${formatCount(rows)} rows, ${formatBytes(backup.sizeBytes)}.`,
      ].join('\n'),
    quiet: () => fileName,
  });
}

async function encryptionOf(context: Context, options: BackupOptions): Promise<AgeEncryption | undefined> {
  if (options.ageRecipient.length > 0) return { kind: 'recipients', recipients: options.ageRecipient };
  if (!options.encrypt) return undefined;
  const question = { message: 'Passphrase for the file', isNew: true, file: options.passphraseFile };
  return { kind: 'passphrase', passphrase: await askPassphrase(context, question) };
}

function dumpOptions(options: BackupOptions): DumpOptions {
  return {
    filters: {
      includeSchemas: options.schema,
      excludeSchemas: options.excludeSchema,
      includeTables: options.table,
      excludeTables: options.excludeTable,
      excludeTableData: options.excludeTableData,
      schemaOnly: options.schemaOnly ?? false,
    },
    globals: options.globals ?? false,
    jobs: options.jobs,
    lockTimeoutMs: options.lockTimeout,
    stallTimeoutMs: options.stallTimeout,
  };
}

function refuseContradictions(options: BackupOptions): void {
  const { toDir } = options;
  if (toDir !== undefined && options.repo !== undefined) {
    throw new UsageError('--repo and --to-dir name two different places.', 'Give one of them.');
  }
  const folderOnly = [
    options.compress !== undefined && '--compress',
    options.prefix !== undefined && '--prefix',
    options.encrypt && '--encrypt',
    options.ageRecipient.length > 0 && '--age-recipient',
  ].find((name) => typeof name === 'string');
  if (toDir === undefined && folderOnly !== undefined) {
    throw new UsageError(
      `${folderOnly} is for plain files, written with --to-dir.`,
      'A repository is compressed by itself, and encrypted when "cellar init" was told to.',
    );
  }
  const repositoryOnly = [options.name !== undefined && '--name', options.tag.length > 0 && '--tag'].find(
    (name) => typeof name === 'string',
  );
  if (toDir !== undefined && repositoryOnly !== undefined) {
    throw new UsageError(
      `${repositoryOnly} is for repositories.`,
      'A plain file takes --description, and --prefix for its name.',
    );
  }
  if (options.encrypt && options.ageRecipient.length > 0) {
    throw new UsageError(
      'A file is encrypted with a passphrase or for recipients, not both.',
      'Give --encrypt or --age-recipient.',
    );
  }
}
