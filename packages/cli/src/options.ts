/** Options that several commands share, declared once so that they read and behave the same everywhere. */
import { type Command, Option } from 'commander';
import type { Context } from './context.ts';
import { PROGRESS_STYLES } from './output/progress-style.ts';
import { filled } from './parse.ts';
import { UsageError } from './usage-error.ts';

export interface RepositoryOptions {
  readonly repo?: string;
  readonly passphraseFile?: string;
  readonly identity?: string;
}

export interface FolderOptions {
  readonly dir?: string;
}

/** Where backups are: a repository, or a folder of plain files. */
export type Place =
  | { readonly kind: 'repository'; readonly url: string }
  | { readonly kind: 'folder'; readonly path: string };

export function addOutputOptions(command: Command): Command {
  return command
    .option('--json', 'print the result as one JSON document')
    .option('-q, --quiet', 'print nothing but errors and the bare names that the result consists of')
    .option('-v, --verbose', 'print errors with their causes and details')
    .addOption(
      new Option('--progress <style>', 'how progress is shown on stderr').choices(PROGRESS_STYLES).default('auto'),
    );
}

export function addRepositoryOptions(command: Command): Command {
  return addKeyOptions(
    command.option('-r, --repo <url>', 'the repository: a folder, as a path or file:///path (or CELLAR_REPO)', filled),
  );
}

/** For commands that also work on a folder of plain files. */
export function addPlaceOptions(command: Command): Command {
  return addRepositoryOptions(command).option('-d, --dir <folder>', 'a folder of plain files instead', filled);
}

function addKeyOptions(command: Command): Command {
  return command
    .option(
      '--passphrase-file <file>',
      'read the passphrase from this file (or CELLAR_PASSPHRASE_FILE, or CELLAR_PASSPHRASE)',
    )
    .option('--identity <file>', 'an age identity that opens the repository or the file, instead of a passphrase');
}

/** The repository that was named, on the command line or in the environment. */
export function repositoryUrl(context: Context, options: RepositoryOptions): string {
  const url = options.repo ?? context.environment.repository;
  if (url !== undefined) return url;
  throw new UsageError('Which repository?', 'Give --repo with its folder, or set CELLAR_REPO.');
}

/** The one place that was named. `--dir` on the command line beats CELLAR_REPO; both options together contradict each other. */
export function placeOf(context: Context, options: RepositoryOptions & FolderOptions): Place {
  if (options.dir !== undefined && options.repo !== undefined) {
    throw new UsageError('--repo and --dir name two different places.', 'Give one of them.');
  }
  if (options.dir !== undefined) return { kind: 'folder', path: options.dir };
  const url = options.repo ?? context.environment.repository;
  if (url !== undefined) return { kind: 'repository', url };
  throw new UsageError(
    'Where are the backups?',
    'Give --repo with a repository (or set CELLAR_REPO), or --dir with a folder of plain files.',
  );
}

/** The database to work on: a URL, `env:NAME` for the URL that this variable holds, or DATABASE_URL where nothing is named. */
export function databaseUrl(context: Context, argument: string | undefined): string {
  if (argument === undefined) {
    const url = context.environment.databaseUrl;
    if (url !== undefined) return url;
    throw new UsageError(
      'Which database?',
      'Give its URL, for example postgres://app@localhost:5432/shop, or set DATABASE_URL, which keeps a password out of the argument list.',
    );
  }
  const variable = /^env:(\w+)$/.exec(argument)?.[1];
  if (variable === undefined) return argument;
  const url = context.environment.variable(variable);
  if (url !== undefined) return url;
  throw new UsageError(`The variable ${variable}, which is to hold the database's URL, is not set.`);
}
