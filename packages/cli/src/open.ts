/** Opens what commands work on: a repository with its secret, asked for only when it is needed, or a folder of plain files. */
import type { PlainFolder, Repository } from '@cellar/core';
import type { Context } from './context.ts';
import { type RepositoryOptions, repositoryUrl } from './options.ts';
import { askPassphrase, readIdentityFile } from './passphrase.ts';

/** The repository that `--repo` or CELLAR_REPO names. To be disposed of, with its storage. */
export async function openRepositoryFor(context: Context, options: RepositoryOptions): Promise<Repository> {
  return await openRepositoryAt(context, repositoryUrl(context, options), options);
}

export async function openRepositoryAt(context: Context, url: string, options: RepositoryOptions): Promise<Repository> {
  const { openRepository, openStorage } = await import('@cellar/core');
  const { identity, passphraseFile } = options;
  const storage = await openStorage(url);
  const secret = async () =>
    identity === undefined
      ? await askPassphrase(context, { message: `Passphrase of ${url}`, isNew: false, file: passphraseFile })
      : await readIdentityFile(identity, context.signal);
  return await openRepository(storage, { secret }, context.signal);
}

export async function openFolderAt(path: string): Promise<PlainFolder> {
  const { openPlainFolder, openStorage } = await import('@cellar/core');
  return openPlainFolder(await openStorage(path));
}
