/** `cellar list`: the backups in a repository or a folder, newest first. */
import type { BackupListing, PlainBackup } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { openFolderAt, openRepositoryAt } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, placeOf, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatCount, formatTime } from '../output/format.ts';
import { listingJson, plainBackupJson } from '../output/shapes.ts';
import { filled } from '../parse.ts';
import type { Run } from '../run.ts';

interface ListOptions extends RepositoryOptions, FolderOptions {
  readonly name?: string;
}

export function registerList(program: Command, run: Run): void {
  const command = program
    .command('list')
    .alias('ls')
    .summary('list backups')
    .description('Lists the backups in a repository, or the plain files in a folder, newest first.');
  addOutputOptions(addPlaceOptions(command).option('-n, --name <name>', 'only the backups of this database', filled))
    .addHelpText(
      'after',
      `
Ends with exit code 3 when a backup cannot be read.

Examples:
  $ cellar list --repo /srv/backups
  $ cellar list --dir ./backups
  $ cellar list --repo /srv/backups --name shop --json | jq -r '.[0].id'`,
    )
    .action(run(list));
}

async function list(context: Context, options: ListOptions): Promise<ExitCode> {
  const place = placeOf(context, options);
  return place.kind === 'repository'
    ? await listRepository(context, place.url, options)
    : await listFolder(context, place.path, options);
}

async function listRepository(context: Context, url: string, options: ListOptions): Promise<ExitCode> {
  const { output, signal } = context;
  await using opened = await openRepositoryAt(context, url, options);
  const all = await opened.repository.listBackups(signal);
  const listings = all.filter(
    (listing) => options.name === undefined || listing.state === 'damaged' || listing.database === options.name,
  );
  const damaged = listings.filter((listing) => listing.state === 'damaged');
  output.result({
    json: () => listings.map(listingJson),
    text: () => (listings.length === 0 ? 'There are no backups yet.' : repositoryTable(context, listings)),
    quiet: () => listings.map(({ id }) => id).join('\n'),
  });
  for (const { error } of damaged) output.warn(error.message);
  return damaged.length === 0 ? EXIT.done : EXIT.damaged;
}

function repositoryTable(context: Context, listings: readonly BackupListing[]): string {
  type Readable = Extract<BackupListing, { state: 'readable' }>;
  const known = (value: (listing: Readable) => string) => (listing: BackupListing) =>
    listing.state === 'readable' ? value(listing) : '';
  return context.output.table<BackupListing>(
    [
      { head: 'backup', value: ({ id }) => id },
      {
        head: 'database',
        value: (listing) => (listing.state === 'readable' ? listing.database : '(damaged)'),
        stretch: true,
      },
      { head: 'taken', value: known(({ createdAt }) => formatTime(createdAt)) },
      { head: 'rows', value: known(({ rows }) => formatCount(rows)), align: 'right', drop: 2 },
      { head: 'size', value: known(({ stats }) => formatBytes(stats.rawBytes)), align: 'right', drop: 1 },
      { head: 'stored', value: known(({ stats }) => formatBytes(stats.newStoredBytes)), align: 'right', drop: 3 },
      { head: 'held', value: ({ held }) => (held ? 'held' : ''), drop: 5 },
      {
        head: 'description',
        value: known(({ part, description, tags }) =>
          [...partly(part), description, ...tags.map((tag) => `#${tag}`)].join(' ').trim(),
        ),
        stretch: true,
        drop: 4,
      },
    ],
    listings,
  );
}

/** In front of the description: a backup that is not of the whole database must not be taken for one. */
function partly(part: string | undefined): string[] {
  return part === undefined ? [] : [`(${part})`];
}

async function listFolder(context: Context, path: string, options: ListOptions): Promise<ExitCode> {
  const { output, signal } = context;
  await using opened = await openFolderAt(path);
  const { backups: all, orphanedSidecars } = await opened.folder.list(signal);
  const backups = all.filter(({ databaseName }) => options.name === undefined || databaseName === options.name);
  output.result({
    json: () => backups.map(plainBackupJson),
    text: () => (backups.length === 0 ? `There are no backups in ${path}.` : folderTable(context, backups)),
    quiet: () => backups.map(({ name }) => name.fileName).join('\n'),
  });
  for (const { name, problems } of backups) {
    for (const problem of problems) output.warn(`${name.fileName}: ${problem}`);
  }
  if (orphanedSidecars.length > 0) {
    output.note(`Left over without their files: ${orphanedSidecars.join(', ')}. "cellar cleanup" removes them.`);
  }
  return backups.every(({ problems }) => problems.length === 0) ? EXIT.done : EXIT.damaged;
}

function folderTable(context: Context, backups: readonly PlainBackup[]): string {
  const rows = ({ facts }: PlainBackup) => facts?.script.tables.reduce((sum, table) => sum + table.rows, 0);
  return context.output.table<PlainBackup>(
    [
      { head: 'file', value: ({ name }) => name.fileName },
      { head: 'database', value: ({ databaseName }) => databaseName, drop: 2 },
      { head: 'taken', value: ({ createdAt }) => formatTime(createdAt), drop: 1 },
      {
        head: 'rows',
        value: (backup) => {
          const count = rows(backup);
          return count === undefined ? '' : formatCount(count);
        },
        align: 'right',
        drop: 3,
      },
      { head: 'size', value: ({ sizeBytes }) => formatBytes(sizeBytes), align: 'right' },
      {
        head: 'description',
        value: ({ part, description }) => [...partly(part), description].join(' '),
        stretch: true,
        drop: 4,
      },
    ],
    backups,
  );
}
