/**
 * Runs a command's action from beginning to end: wires its context, lets Ctrl-C cancel it, tells a failure, and ends with the
 * exit code that the table says.
 */
import type { Command } from 'commander';
import type { Context } from './context.ts';
import type { Environment } from './environment.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { Output } from './output/output.ts';
import type { ProgressView } from './output/progress.ts';
import type { ProgressStyle } from './output/progress-style.ts';

/** The options that every command has. */
export interface OutputOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly progress?: ProgressStyle;
}

/** An action as a command's file writes it: the exit code is its result, 0 where it gives none. */
// biome-ignore lint/suspicious/noConfusingVoidType: most actions have nothing to say beyond having worked
export type Action<Args extends unknown[]> = (context: Context, ...args: Args) => Promise<ExitCode | void>;

/** Makes commander's action handler of ours. Commander appends the options and the command to the arguments. */
export type Run = <Args extends unknown[]>(action: Action<Args>) => (...args: Args) => Promise<void>;

export function runner(environment: Environment): Run {
  return (action) =>
    async (...args) => {
      // The argument list may hold a URL with a password, and everybody on the machine can read it: it is written over.
      const command = args.at(-1) as Command;
      process.title = `cellar ${command.name()}`;
      const options = command.optsWithGlobals<OutputOptions>();
      const output = new Output(
        options.json ? 'json' : options.quiet ? 'quiet' : 'text',
        process.stdout,
        process.stderr,
      );
      const exitCode = await runAction(action, args, options, environment, output);
      await Promise.all([written(process.stdout), written(process.stderr)]);
      process.exit(exitCode);
    };
}

/** Until what was written has been taken: into a pipe that is full, writing goes on after the call, and an exit would cut it. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}

async function runAction<Args extends unknown[]>(
  action: Action<Args>,
  args: Args,
  options: OutputOptions,
  environment: Environment,
  output: Output,
): Promise<ExitCode> {
  const { startProgress } = await import('./output/progress.ts');
  let view: ProgressView | undefined;
  let phase = '';
  const controller = new AbortController();
  cancelOnSignals(
    controller,
    () => phase === SWAPPING,
    () => view?.stop(),
  );
  const context: Context = {
    environment,
    output,
    signal: controller.signal,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    startProgress: () => {
      const shown = startProgress(progressStyle(options), process.stderr);
      view = {
        onProgress(event) {
          phase = event.phase;
          shown.onProgress(event);
        },
        stop: () => shown.stop(),
        [Symbol.dispose]: () => shown[Symbol.dispose](),
      };
      return view;
    },
  };
  try {
    return (await action(context, ...args)) ?? EXIT.done;
  } catch (error) {
    view?.stop();
    const { describeFailure } = await import('./failure.ts');
    const failure = describeFailure(error, Boolean(options.verbose) || environment.debug);
    if (output.mode === 'json') process.stdout.write(`${JSON.stringify(failure.json, null, 2)}\n`);
    process.stderr.write(`${output.styleError('red', 'Error:')} ${failure.text}\n`);
    return controller.signal.aborted ? EXIT.cancelled : failure.exitCode;
  }
}

function progressStyle(options: OutputOptions): ProgressStyle {
  if (options.progress !== undefined && options.progress !== 'auto') return options.progress;
  if (options.quiet) return 'none';
  // A program reads the result; a person may still watch the terminal, but a log gains nothing from lines.
  if (options.json && !process.stderr.isTTY) return 'none';
  return 'auto';
}

/** The phase of a restore in which the live database is closed for connections: leaving then would leave it so. It takes seconds. */
const SWAPPING = 'swap';

/**
 * The first Ctrl-C (or SIGTERM, or a closed terminal) lets the work end in order, the second ends it at once; but while databases are
 * being swapped, the first that would end it is answered by a warning.
 */
function cancelOnSignals(controller: AbortController, isSwapping: () => boolean, beforeExit: () => void): void {
  let warned = false;
  const onSignal = () => {
    if (controller.signal.aborted) {
      if (isSwapping() && !warned) {
        warned = true;
        process.stderr.write(
          '\nThe databases are being swapped, which takes seconds: to leave now may leave the live one closed for connections. Ctrl-C once more to leave all the same.\n',
        );
        return;
      }
      beforeExit();
      process.exit(EXIT.cancelled);
    }
    if (process.stderr.isTTY) {
      process.stderr.write('\nCancelling: the work in hand is taken back. Ctrl-C once more to leave at once.\n');
    }
    controller.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
}
