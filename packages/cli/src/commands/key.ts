/** `cellar key`: the keys that open an encrypted repository, and the recovery kit. */
import type { KeyFacts, KeyProtection } from '@cellar/core';
import type { Command } from 'commander';
import { confirmByName } from '../confirm.ts';
import type { Context } from '../context.ts';
import { openRepositoryFor } from '../open.ts';
import { addOutputOptions, addRepositoryOptions, type RepositoryOptions } from '../options.ts';
import { formatTime } from '../output/format.ts';
import { collect, filled } from '../parse.ts';
import { askPassphrase } from '../passphrase.ts';
import type { Run } from '../run.ts';

interface AddOptions extends RepositoryOptions {
  readonly label: string;
  readonly ageRecipient: readonly string[];
  readonly newPassphraseFile?: string;
}

interface RemoveOptions extends RepositoryOptions {
  readonly yes?: boolean;
}

export function registerKey(program: Command, run: Run): void {
  const key = program
    .command('key')
    .summary('the keys of an encrypted repository, and its recovery kit')
    .description('Adds, lists and removes the keys that open an encrypted repository, and prints its recovery kit.')
    .addHelpText(
      'after',
      `
To change a passphrase, add a key with the new one and remove the old one: nothing else is rewritten.

Examples:
  $ cellar key add --repo /srv/backups --label office
  $ cellar key list --repo /srv/backups
  $ cellar key kit --repo /srv/backups > kit.txt`,
    );

  addOutputOptions(addRepositoryOptions(key.command('add')))
    .description('Adds a key: a further passphrase (asked for, or from a file), or age recipients.')
    .option('--label <text>', 'what the key is for, to tell it from others', filled, 'added with cellar key add')
    .option('--new-passphrase-file <file>', 'read the new passphrase from this file', filled)
    .option(
      '--age-recipient <key>',
      'a public age key (age1…) instead of a passphrase; may be repeated',
      collect(filled),
      [],
    )
    .action(run(add));

  addOutputOptions(addRepositoryOptions(key.command('list')))
    .description('Lists the keys that open the repository.')
    .action(run(list));

  addOutputOptions(addRepositoryOptions(key.command('remove')))
    .description('Removes a key. Whoever copied the repository before can still open that copy with it.')
    .argument('<key>', 'the id of the key, as "cellar key list" shows it')
    .option('-y, --yes', 'do not ask')
    .action(run(remove));

  addOutputOptions(addRepositoryOptions(key.command('kit')))
    .description('Prints what belongs on paper, away from the machine: enough to restore with nothing but the storage.')
    .action(run(kit));
}

async function add(context: Context, options: AddOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const { repository } = opened;
  const protection = await newProtection(context, options);
  const added = await repository.keys.add(protection, options.label, context.signal);
  context.output.result({
    json: () => keyJson(added),
    text: () => `Added the key ${added.id} (${kindOf(added)}).`,
    quiet: () => added.id,
  });
}

async function newProtection(context: Context, options: AddOptions): Promise<KeyProtection> {
  if (options.ageRecipient.length > 0) return { kind: 'age', recipients: options.ageRecipient };
  const question = {
    message: 'New passphrase',
    isNew: true,
    file: options.newPassphraseFile,
    fromEnvironment: false,
    sources: 'Give --new-passphrase-file, or run this on a terminal to be asked.',
  };
  return { kind: 'passphrase', passphrase: await askPassphrase(context, question) };
}

async function list(context: Context, options: RepositoryOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const { repository } = opened;
  const keys = await repository.keys.list(context.signal);
  const { output } = context;
  output.result({
    json: () => keys.map(keyJson),
    text: () =>
      output.table<KeyFacts>(
        [
          { head: 'key', value: (key) => key.id },
          { head: 'opened by', value: kindOf },
          { head: 'added', value: (key) => formatTime(key.createdAt), drop: 1 },
          { head: 'label', value: (key) => key.label, stretch: true },
        ],
        keys,
      ),
    quiet: () => keys.map((key) => key.id).join('\n'),
  });
}

async function remove(context: Context, id: string, options: RemoveOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const { repository } = opened;
  await confirmByName(context, {
    consequence: `What this key is opened by will no longer open the repository at ${repository.url}.`,
    name: id,
    yes: options.yes ?? false,
  });
  await repository.keys.remove(id, context.signal);
  context.output.result({
    json: () => ({ removed: id }),
    text: () => `Removed the key ${id}.`,
    quiet: () => id,
  });
}

async function kit(context: Context, options: RepositoryOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const { repository } = opened;
  const { repositoryId, url, keyIds, recoveryKey } = await repository.keys.kit(context.signal);
  context.output.result({
    json: () => ({ repository_id: repositoryId, url, key_ids: keyIds, recovery_key: recoveryKey }),
    text: () => `RECOVERY KIT OF A CELLAR REPOSITORY
Printed ${formatTime(new Date())}

Repository    ${repositoryId}
Storage       ${url}
Recovery key  ${recoveryKey}

The recovery key opens every backup in this repository, whatever becomes of its passphrases and keys. Keep it on
paper or in a safe, away from the storage and from the machine that is backed up. Whoever has both can read all.

To restore on a fresh machine: install Cellar and the PostgreSQL client tools, bring the storage within reach, and
  cellar list --repo <storage>
  cellar restore latest --repo <storage> --to postgres://… --mode new
When the passphrase is asked for, type the recovery key.`,
    quiet: () => recoveryKey,
  });
}

function kindOf(key: KeyFacts): string {
  switch (key.kind) {
    case 'none':
      return 'everybody (not encrypted)';
    case 'passphrase':
      return 'passphrase';
    case 'age':
      return `age: ${key.recipients.join(', ')}`;
  }
}

function keyJson(key: KeyFacts) {
  return {
    id: key.id,
    kind: key.kind,
    label: key.label,
    created_at: key.createdAt.toISOString(),
    recipients: [...key.recipients],
  };
}
