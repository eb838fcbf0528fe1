/** The command tree: every command registers itself here, and what commander itself refuses ends with exit code 2. */
import { Command, CommanderError } from 'commander';
import { registerBackup } from './commands/backup.ts';
import { registerCleanup } from './commands/cleanup.ts';
import { registerComplete } from './commands/complete.ts';
import { registerDelete } from './commands/delete.ts';
import { registerExport } from './commands/export.ts';
import { registerHold, registerRelease } from './commands/hold.ts';
import { registerInit } from './commands/init.ts';
import { registerKey } from './commands/key.ts';
import { registerList } from './commands/list.ts';
import { registerProbe } from './commands/probe.ts';
import { registerRestore } from './commands/restore.ts';
import { registerShow } from './commands/show.ts';
import { registerVerify } from './commands/verify.ts';
import { readEnvironment } from './environment.ts';
import { EXIT } from './exit-codes.ts';
import { redact } from './redact.ts';
import { runner } from './run.ts';
import { VERSION } from './version.ts';

const EXAMPLES = `
Examples:
  $ cellar init --repo /srv/backups --encrypt
  $ cellar backup postgres://app@localhost/shop --repo /srv/backups
  $ cellar list --repo /srv/backups
  $ cellar restore latest --repo /srv/backups --to postgres://app@localhost/shop

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 damage found, 130 cancelled.
Environment: DATABASE_URL, CELLAR_REPO, CELLAR_PASSPHRASE, CELLAR_PASSPHRASE_FILE, NO_COLOR.`;

/** @param args without the program's own name. */
export async function main(args: readonly string[]): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', ignoreClosedPipe);
  const program = buildProgram();
  try {
    await program.parseAsync(optionalValuesAttached(args), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
}

export function buildProgram(): Command {
  const run = runner(readEnvironment());
  const program = new Command('cellar')
    .description('Backs up databases, restores them, and proves that the backups restore.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', EXAMPLES)
    .configureHelp({ sortOptions: false, showGlobalOptions: false })
    .configureOutput({ outputError: (text, write) => write(redact(text.replace(/^error: /, 'Error: '))) })
    .showHelpAfterError('Run the command with --help to see how it is used.')
    .exitOverride();
  registerInit(program, run);
  registerProbe(program, run);
  registerBackup(program, run);
  registerList(program, run);
  registerShow(program, run);
  registerRestore(program, run);
  registerExport(program, run);
  registerVerify(program, run);
  registerCleanup(program, run);
  registerDelete(program, run);
  registerHold(program, run);
  registerRelease(program, run);
  registerKey(program, run);
  registerComplete(program);
  return program;
}

/** `--read-data` takes its value only with `=`: otherwise `verify --read-data latest` would read the backup's name as the percentage. */
function optionalValuesAttached(args: readonly string[]): string[] {
  const end = args.indexOf('--');
  return args.map((arg, index) => (arg === '--read-data' && (end < 0 || index < end) ? '--read-data=100' : arg));
}

/** A reader that has gone away, as in `cellar list | head -1`, is no reason to stop a backup or to complain. */
function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
