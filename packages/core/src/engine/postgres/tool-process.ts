/**
 * One run of a child program with its streams: started in a process group of its own, so that an abort takes its children along;
 * ended well only with exit code 0; the end of its stderr kept for the message; given up when it is silent for too long.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { CellarError, cancelled, throwIfAborted } from '../../errors.ts';
import { type Tool, toolBaseEnvironment } from './tools.ts';

export interface ToolRun {
  readonly tool: Tool;
  /** Never with a secret: anybody on the machine can read them. */
  readonly args: readonly string[];
  /** Merged over `toolBaseEnvironment()`: `toolEnvironment(target)` and more. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether `write` will be called. */
  readonly input: boolean;
  /** Longest silence while something is awaited of the tool: bytes of its output, or that it takes input. 0: none. */
  readonly stallTimeoutMs: number;
}

export interface ToolProcess extends AsyncDisposable {
  /** The tool's output, to be read once. Ends well only when the tool ended well. An array is valid until the next is asked for. */
  readonly output: AsyncIterable<Buffer>;
  /** Gives the tool input, and waits while it is full. When the tool has gone away, throws the reason it gave. */
  write(bytes: Uint8Array): Promise<void>;
  endInput(): Promise<void>;
  /**
   * Waits for the end; with exit code 0 returns what the tool said on stderr (its last 16 KiB), else throws `tool-failed`.
   * Output nobody reads is discarded.
   */
  finish(): Promise<string>;
  readonly processId: number;
}

const STDERR_KEPT = 16 * 1024;
/** After SIGTERM to the group, before SIGKILL. */
const GRACE_MS = 2000;
/** How long what the tool wrote to stderr may take to arrive after its end. */
const LAST_WORDS_MS = 500;

/** Throws `tool-failed` when the program cannot be started, `cancelled` when the signal is aborted already. */
export async function startTool(run: ToolRun, signal: AbortSignal): Promise<ToolProcess> {
  throwIfAborted(signal);
  const { tool } = run;
  const child = spawn(tool.path, [...run.args], {
    detached: true,
    env: { ...toolBaseEnvironment(), ...run.env },
    stdio: [run.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    // The folder may be removed while the tool runs, and must not decide what it does.
    cwd: '/',
  });
  const { stdout, stderr: errors } = child;
  if (stdout === null || errors === null) throw new Error('spawn was asked for pipes and gave none');
  const pipe = new PipeReader(stdout);
  const stderr = keepTail(errors);
  const ended = endOf(child, errors);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) =>
      reject(new CellarError('tool-failed', `${tool.name} could not be started: ${cause.message}.`, { cause })),
    );
  });

  let stopReason: CellarError | undefined;
  const stop = (reason: CellarError) => {
    stopReason ??= reason;
    killGroup(child, 'SIGTERM');
    const timer = setTimeout(() => killGroup(child, 'SIGKILL'), GRACE_MS);
    void ended.then(() => clearTimeout(timer));
  };
  const onAbort = () => stop(cancelled(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  void ended.then(() => signal.removeEventListener('abort', onAbort));

  const failure = async (): Promise<CellarError | undefined> => {
    const { code, signalName } = await ended;
    if (stopReason !== undefined) return stopReason;
    return code === 0 ? undefined : toolFailed(tool, code, signalName, stderr());
  };
  /** Waits for something of the tool, within the stall limit. */
  const awaited = async <T>(what: string, promise: Promise<T>): Promise<T> => {
    if (run.stallTimeoutMs === 0) return await promise;
    const timer = setTimeout(() => {
      const seconds = Math.round(run.stallTimeoutMs / 1000);
      stop(
        new CellarError('stalled', `${tool.name} ${what} for ${seconds} seconds and was ended.`, {
          hint: 'Look for a lock or an overloaded server or network; or allow a longer silence.',
          retryable: true,
        }),
      );
    }, run.stallTimeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  };

  child.stdin?.on('error', () => {
    // EPIPE when the tool has gone: `write` and `finish` tell why it has.
  });

  return {
    processId: child.pid ?? 0,
    output: readOutput(),
    async write(bytes) {
      const input = child.stdin;
      if (input === null) throw new Error('startTool was not asked for input');
      const written = new Promise<boolean>((resolve) => {
        if (input.destroyed || !input.writable) return resolve(false);
        input.write(bytes, (error) => resolve(error === null || error === undefined));
      });
      if (!(await awaited('took no input', written))) await throwGone();
    },
    async endInput() {
      const input = child.stdin;
      if (input === null) return;
      const closed = new Promise<void>((resolve) => {
        if (input.destroyed || input.writableFinished) return resolve();
        input.once('finish', resolve);
        input.once('close', resolve);
        input.end();
      });
      await awaited('took no input', closed);
    },
    async finish() {
      pipe.discardRest();
      const error = await failure();
      if (error !== undefined) throw error;
      return stderr();
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        stop(new CellarError('cancelled', `${tool.name} was ended because its work is no longer needed.`));
      }
      child.stdin?.destroy();
      stdout.destroy();
      errors.destroy();
      await ended;
    },
  };

  async function* readOutput(): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = pipe.read();
      if (piece !== undefined) yield piece;
      else if (pipe.over) break;
      else await awaited('sent nothing', pipe.more());
    }
    const error = await failure();
    if (error !== undefined) throw error;
  }

  async function throwGone(): Promise<never> {
    const error = await failure();
    throw (
      error ??
      new CellarError('tool-failed', `${tool.name} ended before it had read all of its input.${said(stderr())}`)
    );
  }
}

/** Runs a program to its end and returns its whole output: for answers known to be small. */
export async function runTool(
  run: ToolRun,
  signal: AbortSignal,
): Promise<{ readonly output: Buffer; readonly stderr: string }> {
  await using child = await startTool(run, signal);
  const pieces: Buffer[] = [];
  for await (const piece of child.output) pieces.push(Buffer.from(piece));
  return { output: Buffer.concat(pieces), stderr: await child.finish() };
}

/** The readable end of a pipe, read when its reader wants to, without losing anything meanwhile. */
class PipeReader {
  readonly #stream: Readable;
  #wake: () => void = () => undefined;

  constructor(stream: Readable) {
    this.#stream = stream;
    // When a child exits, Node discards the output of its pipes that nobody listens to at that moment: always listen.
    for (const event of ['readable', 'end', 'close']) stream.on(event, () => this.#wake());
  }

  /** What has come, or undefined when nothing has; `over` tells whether anything will. */
  read(): Buffer | undefined {
    const piece: Buffer | null = this.#stream.read();
    return piece ?? undefined;
  }

  get over(): boolean {
    return this.#stream.readableEnded || this.#stream.destroyed;
  }

  /** Resolves when `read` may give something, or it is over. */
  more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  discardRest(): void {
    this.#stream.removeAllListeners('readable');
    this.#stream.resume();
  }
}

interface Ending {
  readonly code: number | null;
  readonly signalName: NodeJS.Signals | null;
}

/** Not the event `close`: a grandchild that keeps the pipes open must not keep us waiting for long. */
function endOf(child: ChildProcess, errors: Readable): Promise<Ending> {
  return new Promise((resolve) => {
    child.once('exit', (code, signalName) => {
      const done = () => {
        clearTimeout(timer);
        resolve({ code, signalName });
      };
      const timer = setTimeout(done, LAST_WORDS_MS);
      if (errors.closed) done();
      else errors.once('close', done);
    });
    child.once('error', () => resolve({ code: null, signalName: null }));
  });
}

/** Ends the tool and whatever it started; the group is gone already when it has ended. */
function killGroup(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    child.kill(name);
  }
}

function keepTail(stream: Readable): () => string {
  let tail = Buffer.alloc(0);
  stream.on('data', (piece: Buffer) => {
    const all = Buffer.concat([tail, piece]);
    tail = all.length > STDERR_KEPT ? all.subarray(all.length - STDERR_KEPT) : all;
  });
  return () => tail.toString('utf8');
}

function toolFailed(tool: Tool, code: number | null, signalName: NodeJS.Signals | null, stderr: string): CellarError {
  const how = signalName === null ? `ended with exit code ${code ?? 'unknown'}` : `was killed by ${signalName}`;
  const { code: errorCode, hint, retryable } = meaningOf(stderr);
  return new CellarError(errorCode, `${tool.name} ${how}.${said(stderr)}`, {
    ...(hint === undefined ? {} : { hint }),
    retryable: retryable ?? false,
    details: { tool: tool.name, exitCode: code, signal: signalName, stderr },
  });
}

/** What the tools' messages (in English, by LC_ALL=C) stand for, where a code of its own exists. */
function meaningOf(stderr: string): {
  readonly code: CellarError['code'];
  readonly hint?: string;
  readonly retryable?: boolean;
} {
  // pg_dump's --lock-wait-timeout is a statement timeout around LOCK TABLE.
  if (
    /canceling statement due to (?:lock timeout|statement timeout[\s\S]*LOCK TABLE)|could not obtain lock/.test(stderr)
  ) {
    return {
      code: 'database-locked',
      hint: 'Another session holds or awaits a lock (TRUNCATE, ALTER TABLE, …): let it finish, end it, or allow a longer lock timeout.',
      retryable: true,
    };
  }
  if (/password authentication failed|no password supplied|no pg_hba\.conf entry/.test(stderr)) {
    return { code: 'database-login', hint: 'Check the user and the password in the database URL.' };
  }
  if (/permission denied|must be (?:owner|superuser)|query would be affected by row-level security/.test(stderr)) {
    return { code: 'database-privilege', hint: 'Grant this user the right, or connect as the owner or a superuser.' };
  }
  // Of pg_dump, for a schema or table that was asked for.
  if (/no matching (?:tables|schemas|extensions) were found/.test(stderr)) {
    return {
      code: 'invalid-input',
      hint: 'Every schema and table that a backup is to hold must be there: check the patterns, in which capital letters need double quotes, and the database that the URL names.',
    };
  }
  return { code: 'tool-failed' };
}

/** The first complaint and what follows it: later ones come of the first. */
function said(stderr: string): string {
  const lines = stderr
    .trim()
    .split('\n')
    .filter((line) => line.trim() !== '');
  if (lines.length === 0) return '';
  const first = lines.findIndex((line) => /\b(?:error|fatal|panic):/i.test(line));
  const shown = first === -1 ? lines.slice(-6) : lines.slice(first, first + 6);
  return ` It said: ${shown.map((line) => line.trim()).join(' / ')}`;
}
