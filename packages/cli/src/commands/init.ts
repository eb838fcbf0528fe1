/** `cellar init`: creates a repository, and with `--encrypt` the key that opens it. */
import type { KeyProtection } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { addOutputOptions, addRepositoryOptions, type RepositoryOptions, repositoryUrl } from '../options.ts';
import { collect, filled } from '../parse.ts';
import { askPassphrase } from '../passphrase.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface InitOptions extends RepositoryOptions {
  readonly encrypt?: boolean;
  readonly ageRecipient: readonly string[];
}

export function registerInit(program: Command, run: Run): void {
  const command = program
    .command('init')
    .summary('create a repository')
    .description('Creates a repository: a place where backups share what they have in common.')
    .option('-e, --encrypt', 'encrypt everything in it, with a passphrase')
    .option(
      '--age-recipient <key>',
      'encrypt everything, for the holder of this age key (age1…); may be given several times',
      collect(filled),
      [],
    );
  addOutputOptions(addRepositoryOptions(command))
    .addHelpText(
      'after',
      `
An encrypted repository cannot be opened without its passphrase or key, by anybody. Take the recovery kit right after:
"cellar key kit" prints what is to be kept on paper.

Examples:
  $ cellar init --repo /srv/backups --encrypt
  $ CELLAR_PASSPHRASE_FILE=/etc/cellar/passphrase cellar init --repo /srv/backups --encrypt
  $ cellar init --repo ./scratch`,
    )
    .action(run(init));
}

async function init(context: Context, options: InitOptions): Promise<void> {
  const { initRepository, openStorage } = await import('@cellar/core');
  const { output, signal } = context;
  if (options.encrypt && options.ageRecipient.length > 0) {
    throw new UsageError(
      '--encrypt asks for a passphrase, --age-recipient for none.',
      'Give one of them, and add the other afterwards with "cellar key add".',
    );
  }
  const url = repositoryUrl(context, options);
  const protection = await protectionOf(context, url, options);
  await using storage = await openStorage(url);
  const { id, encrypted } = await initRepository(storage, { protection }, signal);
  output.result({
    json: () => ({ repository_id: id, url: storage.url, encrypted }),
    text: () => `Created ${encrypted ? 'an encrypted' : 'an unencrypted'} repository at ${storage.url}.`,
    quiet: () => id,
  });
  if (encrypted) {
    output.note(
      `Without its ${options.encrypt ? 'passphrase' : 'key'} nobody can read it, nor you: take the recovery kit now, with "cellar key kit".`,
    );
  } else {
    output.note(
      'Whoever can read the folder can read the backups: "cellar init --encrypt" makes one that keeps them secret.',
    );
  }
}

async function protectionOf(context: Context, url: string, options: InitOptions): Promise<KeyProtection> {
  if (options.ageRecipient.length > 0) return { kind: 'age', recipients: options.ageRecipient };
  if (!options.encrypt) return { kind: 'none' };
  const question = { message: `New passphrase for ${url}`, isNew: true, file: options.passphraseFile };
  return { kind: 'passphrase', passphrase: await askPassphrase(context, question) };
}
