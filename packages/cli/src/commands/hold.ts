/** `cellar hold` and `cellar release`: a backup on hold is deleted by nothing until it is released. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { openRepositoryFor } from '../open.ts';
import { addOutputOptions, addRepositoryOptions, type RepositoryOptions } from '../options.ts';
import { filled } from '../parse.ts';
import type { Run } from '../run.ts';

interface HoldOptions extends RepositoryOptions {
  readonly reason: string;
}

export function registerHold(program: Command, run: Run): void {
  addOutputOptions(addRepositoryOptions(program.command('hold')))
    .summary('never delete a backup')
    .description('Puts a backup on hold: neither "cellar delete" nor "cellar cleanup" deletes it until it is released.')
    .argument('<backup>', 'an id, a unique start of one, latest, or NAME@latest')
    .option('--reason <text>', 'why, for those who find it later', filled, 'put on hold by hand')
    .addHelpText('after', `\nExample:\n  $ cellar hold 01JC6Q --repo /srv/backups --reason "audit 2024"`)
    .action(run(hold));
}

export function registerRelease(program: Command, run: Run): void {
  addOutputOptions(addRepositoryOptions(program.command('release')))
    .summary('end a hold')
    .description('Ends the hold of a backup: rules may delete it again.')
    .argument('<backup>', 'an id, a unique start of one, latest, or NAME@latest')
    .addHelpText('after', `\nExample:\n  $ cellar release 01JC6Q --repo /srv/backups`)
    .action(run(release));
}

async function hold(context: Context, name: string, options: HoldOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const { backup, reason, createdAt } = await opened.repository.hold(name, options.reason, context.signal);
  context.output.result({
    json: () => ({ id: backup, reason, created_at: createdAt.toISOString() }),
    text: () => `Backup ${backup} is on hold (${reason}): it stays until "cellar release ${backup}".`,
    quiet: () => backup,
  });
}

async function release(context: Context, name: string, options: RepositoryOptions): Promise<void> {
  await using opened = await openRepositoryFor(context, options);
  const id = await opened.repository.release(name, context.signal);
  context.output.result({
    json: () => ({ id }),
    text: () => `Backup ${id} is no longer on hold.`,
    quiet: () => id,
  });
}
