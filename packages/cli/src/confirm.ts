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
  const lines = createInterface({ input: context.stdin, output: context.stderr });
  try {
    context.stderr.write(`${confirmation.consequence}\n`);
    const answer = await lines.question(`Type ${confirmation.name} to go on: `, { signal: context.signal });
    if (answer.trim() !== confirmation.name) throw new UsageError('Not confirmed: nothing was changed.');
  } finally {
    lines.close();
  }
}
