/** `cellar delete`: deletes one backup by name. */
import type { Command } from 'commander';
import { confirmByName } from '../confirm.ts';
import type { Context } from '../context.ts';
import { openFolderAt, openRepositoryAt } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, placeOf, type RepositoryOptions } from '../options.ts';
import { formatBytes } from '../output/format.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface DeleteOptions extends RepositoryOptions, FolderOptions {
  readonly force?: boolean;
  readonly yes?: boolean;
}

export function registerDelete(program: Command, run: Run): void {
  const command = program
    .command('delete')
    .summary('delete a backup')
    .description('Deletes one backup. Others are not harmed: none of them needs it.')
    .argument('<backup>', 'an id, a unique start of one, or a file name');
  addOutputOptions(
    addPlaceOptions(command)
      .option('--force', 'also the last good backup of its database')
      .option('-y, --yes', 'do not ask'),
  )
    .addHelpText(
      'after',
      `
A held backup is not deleted: release it first. In a repository the space comes back with "cellar cleanup".

Examples:
  $ cellar delete 01JC6Q --repo /srv/backups
  $ cellar delete shop_backup_20241108_020000.sql.gz --dir ./backups --yes`,
    )
    .action(run(deleteBackup));
}

async function deleteBackup(context: Context, name: string, options: DeleteOptions): Promise<void> {
  if (/(^|@)latest$/.test(name)) {
    throw new UsageError(
      '"latest" may be another backup by the time it is deleted.',
      'Name the backup by its id or file name.',
    );
  }
  const place = placeOf(context, options);
  if (place.kind === 'repository') await deleteFromRepository(context, place.url, name, options);
  else await deleteFromFolder(context, place.path, name, options);
}

async function deleteFromRepository(
  context: Context,
  url: string,
  name: string,
  options: DeleteOptions,
): Promise<void> {
  const { output, signal } = context;
  await using opened = await openRepositoryAt(context, url, options);
  const { repository } = opened;
  const listings = await repository.listBackups(signal);
  const candidates = listings.filter(({ id }) => id.startsWith(name.toUpperCase()));
  const [only] = candidates;
  const readable = candidates.length === 1 && only?.state === 'readable' ? only : undefined;
  if (readable !== undefined) {
    const good = listings.filter(
      (other) => other.state === 'readable' && other.database === readable.database && other.part === readable.part,
    );
    if (good.length === 1) refuseLast(readable.database, readable.part, readable.id, options);
  }
  // A name that fits none or several backups is refused by the deletion itself, with the candidates.
  if (candidates.length === 1 && only !== undefined) {
    await confirmByName(context, {
      consequence: `This deletes the backup ${only.id}${readable === undefined ? '' : ` of ${readable.database}`}.`,
      name: only.id,
      yes: options.yes ?? false,
    });
  }
  const id = await repository.deleteBackup(candidates.length === 1 && only !== undefined ? only.id : name, signal);
  output.result({
    json: () => ({ id }),
    text: () => `Deleted the backup ${id}. What only it used is freed by "cellar cleanup", some days from now.`,
    quiet: () => id,
  });
}

async function deleteFromFolder(context: Context, path: string, name: string, options: DeleteOptions): Promise<void> {
  const { output, signal } = context;
  await using opened = await openFolderAt(path);
  const { folder } = opened;
  const backup = await folder.find(name, signal);
  const { fileName } = backup.name;
  const { backups } = await folder.list(signal);
  const good = backups.filter(
    ({ databaseName, part, problems }) =>
      databaseName === backup.databaseName && part === backup.part && problems.length === 0,
  );
  if (good.length === 1 && good[0]?.name.fileName === fileName) {
    refuseLast(backup.databaseName, backup.part, fileName, options);
  }
  await confirmByName(context, {
    consequence: `This deletes the file ${fileName} (${formatBytes(backup.sizeBytes)}).`,
    name: fileName,
    yes: options.yes ?? false,
  });
  await folder.delete(backup, signal);
  output.result({
    json: () => ({ filename: fileName, freed_bytes: backup.sizeBytes }),
    text: () => `Deleted ${fileName}: ${formatBytes(backup.sizeBytes)} freed.`,
    quiet: () => fileName,
  });
}

function refuseLast(database: string, part: string | undefined, name: string, options: DeleteOptions): void {
  if (options.force) return;
  throw new UsageError(
    `${name} is the last good backup of ${database}${part === undefined ? '' : ` (${part})`}.`,
    'Take another one first, or give --force to delete it all the same.',
  );
}
