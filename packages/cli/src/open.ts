/**
 * Opens what commands work on: a repository with its secret, which is asked for only when it is needed; a folder of plain files; and one
 * backup in either, by the name that was given.
 */
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { AgeKeys, BackupContents, PlainBackup, PlainFolder, Repository } from '@cellar/core';
import type { Context } from './context.ts';
import { type FolderOptions, placeOf, type RepositoryOptions, repositoryUrl } from './options.ts';
import { askPassphrase, readIdentityFile } from './passphrase.ts';

export interface OpenedRepository extends AsyncDisposable {
  readonly repository: Repository;
}

export interface OpenedFolder extends AsyncDisposable {
  readonly folder: PlainFolder;
}

/** A backup to read from, wherever it lies. */
export interface OpenedBackup extends AsyncDisposable {
  /** Its id, or the file's name. */
  readonly title: string;
  readonly database: string;
  readonly createdAt: Date;
  readonly contents: BackupContents;
}

/** The repository that `--repo` or CELLAR_REPO names. */
export async function openRepositoryFor(context: Context, options: RepositoryOptions): Promise<OpenedRepository> {
  return await openRepositoryAt(context, repositoryUrl(context, options), options);
}

/**
 * The same, handed out when nobody will be asked anything any more: deriving the key from the passphrase then goes on beside other
 * work. The repository's failure is that of whoever waits for it.
 */
export async function startOpeningRepository(
  context: Context,
  options: RepositoryOptions,
): Promise<AsyncDisposable & { readonly repository: Promise<Repository> }> {
  const secretKnown = Promise.withResolvers<void>();
  const opening = openRepositoryAt(context, repositoryUrl(context, options), options, secretKnown.resolve);
  await Promise.race([opening, secretKnown.promise]);
  const repository = opening.then((opened) => opened.repository);
  repository.catch(() => {});
  const close = (): Promise<void> =>
    opening.then(
      async (opened) => await opened[Symbol.asyncDispose](),
      () => {},
    );
  return { repository, [Symbol.asyncDispose]: close };
}

export async function openRepositoryAt(
  context: Context,
  url: string,
  options: RepositoryOptions,
  onSecretKnown: () => void = () => {},
): Promise<OpenedRepository> {
  const { openRepository, openStorage } = await import('@cellar/core');
  const { identity, passphraseFile } = options;
  const storage = await openStorage(url);
  const secret = async () => {
    const known =
      identity === undefined
        ? await askPassphrase(context, { message: `Passphrase of ${url}`, isNew: false, file: passphraseFile })
        : await readIdentityFile(identity, context.signal);
    onSecretKnown();
    return known;
  };
  try {
    const repository = await openRepository(storage, { secret }, context.signal);
    return { repository, [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() };
  } catch (error) {
    await storage[Symbol.asyncDispose]();
    throw error;
  }
}

/** A folder to read from. One that does not exist is an error: taken for an empty one, a slip of the keyboard would look like lost backups. */
export async function openFolderAt(path: string): Promise<OpenedFolder> {
  const { CellarError } = await import('@cellar/core');
  const isFolder = await stat(path.startsWith('file://') ? fileURLToPath(path) : path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) throw new CellarError('not-found', `There is no folder ${path} that can be read.`);
  return await openOrMakeFolderAt(path);
}

/** A folder to write to; made with the first file. */
export async function openOrMakeFolderAt(path: string): Promise<OpenedFolder> {
  const { openStorage, PlainFolder } = await import('@cellar/core');
  const storage = await openStorage(path);
  return { folder: new PlainFolder(storage), [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() };
}

/** The backup of that name, in the place that the options name. */
export async function openBackup(
  context: Context,
  name: string,
  options: RepositoryOptions & FolderOptions,
): Promise<OpenedBackup> {
  const { signal } = context;
  const place = placeOf(context, options);
  if (place.kind === 'repository') {
    const opened = await openRepositoryAt(context, place.url, options);
    return await orDispose(opened, async ({ repository }) => {
      const manifest = await repository.findBackup(name, signal);
      const { id, database, createdAt } = manifest;
      return { title: id, database, createdAt, contents: repository.contents(manifest) };
    });
  }
  return await orDispose(await openFolderAt(place.path), async ({ folder }) => {
    const { engineById } = await import('@cellar/core');
    const backup = await folder.find(name, signal);
    const engine = await engineById(backup.facts?.source.engine ?? 'postgres');
    const contents = await folder.contents(backup, engine, await ageKeysFor(context, backup, options), signal);
    return { title: backup.name.fileName, database: backup.databaseName, createdAt: backup.createdAt, contents };
  });
}

/** What opens an encrypted plain file: an identity or a passphrase, asked for only when the file is encrypted. */
export async function ageKeysFor(context: Context, backup: PlainBackup, options: RepositoryOptions): Promise<AgeKeys> {
  if (!backup.name.encrypted) return { identities: [], passphrases: [] };
  if (options.identity !== undefined) {
    return { identities: [await readIdentityFile(options.identity, context.signal)], passphrases: [] };
  }
  const question = {
    message: `Passphrase of ${backup.name.fileName}`,
    isNew: false,
    file: options.passphraseFile,
    sources:
      'Set CELLAR_PASSPHRASE_FILE, or give --identity with an age identity if the file was encrypted for a recipient.',
  };
  return { identities: [], passphrases: [await askPassphrase(context, question)] };
}

async function orDispose<Opened extends AsyncDisposable, Rest>(
  opened: Opened,
  use: (opened: Opened) => Promise<Rest>,
): Promise<Rest & AsyncDisposable> {
  try {
    return { ...(await use(opened)), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}
