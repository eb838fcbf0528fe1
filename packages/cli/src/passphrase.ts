/**
 * Where secrets come from: a file that an option names, CELLAR_PASSPHRASE, CELLAR_PASSPHRASE_FILE, or a hidden prompt. Never from the
 * argument list, which everybody on the machine can read. A recovery key is taken wherever a passphrase is.
 */
import { readFile } from 'node:fs/promises';
import { type Context, isInteractive } from './context.ts';
import { UsageError } from './usage-error.ts';

const SOURCES =
  'Set CELLAR_PASSPHRASE_FILE to a file that holds it (or CELLAR_PASSPHRASE), or run this on a terminal to be asked.';

export interface PassphraseQuestion {
  /** As the prompt says it, for example `Passphrase of /srv/backups`. */
  readonly message: string;
  /** A passphrase that is being set is asked for twice, and an empty one refused. */
  readonly isNew: boolean;
  /** A file that an option names; it comes before the environment. */
  readonly file?: string | undefined;
  /** False for a second passphrase beside that of the environment, which means the first. */
  readonly fromEnvironment?: boolean;
  /** How to give it where nobody can be asked, when that is not what is usual. */
  readonly sources?: string;
}

/** The passphrase, or a UsageError that says how to give one. */
export async function askPassphrase(context: Context, question: PassphraseQuestion): Promise<string> {
  const { environment } = context;
  const fromEnvironment = question.fromEnvironment ?? true;
  if (question.file !== undefined) return await readPassphraseFile(question.file, context.signal);
  if (fromEnvironment && environment.passphrase !== undefined) return environment.passphrase;
  if (fromEnvironment && environment.passphraseFile !== undefined) {
    return await readPassphraseFile(environment.passphraseFile, context.signal);
  }
  if (!isInteractive(context))
    throw new UsageError(`${question.message} is needed, and there is none.`, question.sources ?? SOURCES);
  return await prompt(context, question);
}

/** The age identity that a file holds, as `age-keygen` writes it: comments, then one line. */
export async function readIdentityFile(path: string, signal: AbortSignal): Promise<string> {
  const text = await readSecretFile(path, 'identity', signal);
  const identity = text.split(/\r?\n/).find((line) => line.startsWith('AGE-SECRET-KEY-'));
  if (identity !== undefined) return identity.trim();
  throw new UsageError(`The file ${path} holds no age identity.`, 'It has a line that begins with AGE-SECRET-KEY-1.');
}

/** The first line of the file: editors and `echo` end it with a newline that is not meant. */
async function readPassphraseFile(path: string, signal: AbortSignal): Promise<string> {
  const text = await readSecretFile(path, 'passphrase', signal);
  const passphrase = /^[^\r\n]*/.exec(text)?.[0] ?? '';
  if (passphrase === '') throw new UsageError(`The first line of the passphrase file ${path} is empty.`);
  return passphrase;
}

async function readSecretFile(path: string, what: string, signal: AbortSignal): Promise<string> {
  try {
    return await readFile(path, { encoding: 'utf8', signal });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`The ${what} file cannot be read: ${reason}.`);
  }
}

async function prompt(context: Context, question: PassphraseQuestion): Promise<string> {
  const { default: password } = await import('@inquirer/password');
  const streams = { input: context.stdin, output: context.stderr, signal: context.signal };
  const ask = async (message: string, validate: (answer: string) => true | string) => {
    try {
      return await password({ message, validate }, streams);
    } catch (error) {
      // Ctrl-C is read by the prompt itself, which holds the terminal in raw mode: no signal arrives.
      if (error instanceof Error && ['ExitPromptError', 'AbortPromptError'].includes(error.name)) {
        const { CellarError } = await import('@cellar/core');
        throw new CellarError('cancelled', 'Cancelled: no passphrase was given.');
      }
      throw error;
    }
  };
  const notEmpty = (answer: string) => answer !== '' || 'A passphrase cannot be empty.';
  const passphrase = await ask(question.message, notEmpty);
  if (question.isNew) {
    await ask('The same once more', (answer) => answer === passphrase || 'That is not the same passphrase.');
  }
  return passphrase;
}
