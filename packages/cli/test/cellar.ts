/** Runs the real command in a process of its own, as a shell would, with or without a terminal. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** A command that runs; its output is collected. */
export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly finished: Promise<Finished>;
  /** Everything written so far, to either stream. */
  output(): string;
}

/** What a shell of a fresh user has, and what the test adds; nothing of the machine that runs the tests. */
function cleanEnvironment(environment: Environment): Record<string, string> {
  const base = { PATH: process.env['PATH'], HOME: tmpdir(), TZ: 'UTC', LANG: 'C.UTF-8', ...environment };
  return Object.fromEntries(Object.entries(base).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

export function startCellar(args: readonly string[], environment: Environment = {}): Running {
  return collect(spawn(process.execPath, [MAIN, ...args], { env: cleanEnvironment(environment) }));
}

/**
 * How many bytes come through `npx cellar … | a reader that sleeps first`. npx shares its own stdout with the command, and as a Node program it has
 * made it non-blocking, so that writes of the command are no longer finished when they return.
 */
export async function bytesThroughSlowPipe(args: readonly string[], environment: Environment = {}): Promise<number> {
  const npx = `
    process.stdout.write('');
    const child = require('node:child_process').spawn(process.execPath, process.argv.slice(1), { stdio: 'inherit' });
    child.on('close', (code) => { process.exitCode = code; });`;
  const reader = `
    const { readSync } = require('node:fs');
    const pause = new Int32Array(new SharedArrayBuffer(4));
    const piece = Buffer.alloc(65536);
    let bytes = 0;
    // By then a command that does not wait for its reader has ended.
    Atomics.wait(pause, 0, 0, 3000);
    for (let count = readSync(0, piece); count > 0; count = readSync(0, piece)) bytes += count;
    console.log(bytes);`;
  const script = '"$0" -e "$NPX" -- "$@" | "$0" -e "$READER"';
  const env = cleanEnvironment({ ...environment, NPX: npx, READER: reader });
  const running = collect(spawn('/bin/sh', ['-c', script, process.execPath, MAIN, ...args], { env }));
  const { stdout, stderr } = await running.finished;
  if (stderr !== '') throw new Error(stderr);
  return Number(stdout);
}

export async function cellar(args: readonly string[], environment: Environment = {}): Promise<Finished> {
  const running = startCellar(args, environment);
  running.child.stdin.end();
  return await running.finished;
}

/** The JSON document that a command prints; throws with its words when it failed. */
export async function cellarJson<Answer>(args: readonly string[], environment: Environment = {}): Promise<Answer> {
  const { code, stdout, stderr } = await cellar([...args, '--json'], environment);
  if (code !== 0) throw new Error(`cellar ${args[0]} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as Answer;
}

/** The same on a pseudo-terminal of 100 columns, by `script` of util-linux: stdout and stderr are one. */
export function startOnTerminal(args: readonly string[], environment: Environment = {}, columns = 100): Running {
  const quoted = [process.execPath, MAIN, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  const command = `stty cols ${columns} rows 40; exec ${quoted}`;
  const env = { TERM: 'xterm-256color', ...environment };
  return collect(spawn('script', ['-qefc', command, '/dev/null'], { env: cleanEnvironment(env) }));
}

/** Types each answer when its question has appeared, and returns when the command has ended. */
export async function answer(
  running: Running,
  answers: readonly (readonly [question: string, answer: string])[],
): Promise<Finished> {
  let seen = 0;
  for (const [question, text] of answers) {
    seen = await waitForOutput(running, question, seen);
    running.child.stdin.write(`${text}\r`);
  }
  return await running.finished;
}

/** @returns the position behind `text` in the output. */
export async function waitForOutput(running: Running, text: string, from = 0): Promise<number> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const at = running.output().indexOf(text, from);
    if (at >= 0) return at + text.length;
    if (Date.now() > deadline || running.child.exitCode !== null) {
      throw new Error(`${JSON.stringify(text)} did not appear in: ${running.output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A folder of one's own, removed when disposed. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'cellar-cli-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

function collect(child: ChildProcessWithoutNullStreams): Running {
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // The command may end without reading what it was given.
  child.stdin.on('error', () => undefined);
  const finished = new Promise<Finished>((resolve, reject) => {
    child.once('error', reject).once('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, finished, output: () => stdout + stderr };
}
