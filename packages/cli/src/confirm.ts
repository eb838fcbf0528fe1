/** Confirmation of what cannot be taken back: the person types a name, so that a habit of pressing "y" confirms nothing. */
import { createInterface } from 'node:readline/promises';
import { type Context, isInteractive } from './context.ts';
import { UsageError } from './usage-error.ts';

export interface Confirmation {
  /** What is about to happen, in a sentence or two. */
  readonly consequence: string;
  /** The name to type. */
  readonly name: string;
  /** `--yes` was given. */
  readonly yes: boolean;
}

/** Returns when the person agreed; throws a UsageError otherwise, or where nobody can be asked. */
export async function confirmByName(context: Context, confirmation: Confirmation): Promise<void> {
  if (confirmation.yes) return;
  if (!isInteractive(context)) {
    throw new UsageError(
      `${confirmation.consequence} That needs a confirmation, and there is no terminal to ask on.`,
      'Give --yes if this is what you want.',
    );
  }
  context.stderr.write(`${confirmation.consequence}\n`);
  const answer = await ask(context, `Type ${confirmation.name} to go on: `);
  if (answer === undefined) {
    const { CellarError } = await import('@cellar/core');
    context.stderr.write('\n');
    throw new CellarError('cancelled', 'Cancelled: nothing was changed.');
  }
  if (answer.trim() !== confirmation.name) throw new UsageError('Not confirmed: nothing was changed.');
}

/** Undefined when the person pressed Ctrl-C or Ctrl-D instead of answering, or a signal came. */
async function ask(context: Context, question: string): Promise<string | undefined> {
  const lines = createInterface({ input: context.stdin, output: context.stderr });
  const closed = new Promise<undefined>((resolve) => {
    lines.once('close', () => resolve(undefined));
  });
  try {
    return await Promise.race([lines.question(question, { signal: context.signal }), closed]);
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') return undefined;
    throw error;
  } finally {
    lines.close();
  }
}
