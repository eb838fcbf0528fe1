/** What every command is handed: the environment, where to write, and the signal that Ctrl-C aborts. Wired by hand in `run.ts`. */
import type { Environment } from './environment.ts';
import type { Output } from './output/output.ts';
import type { ProgressView } from './output/progress.ts';

export interface Context {
  readonly environment: Environment;
  readonly output: Output;
  readonly signal: AbortSignal;
  /** Streams of the process: prompts are asked on stderr, so that stdout carries nothing but results. */
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Begins to show progress, in the way that was asked for. */
  startProgress(): ProgressView;
}

/** True when a question can be asked and answered. */
export function isInteractive(context: Context): boolean {
  return context.stdin.isTTY && context.stderr.isTTY;
}
