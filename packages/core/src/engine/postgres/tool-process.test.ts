import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTool, startTool, type ToolRun } from './tool-process.ts';
import { findTool } from './tools.ts';

const signal = (): AbortSignal => AbortSignal.timeout(20_000);

/** A program in shell, run as a tool is. */
function shell(script: string, options: Partial<ToolRun> = {}): ToolRun {
  const tool = { name: 'psql', path: '/bin/sh', major: 15, version: '15.0' } as const;
  return { tool, args: ['-c', script], env: {}, input: false, stallTimeoutMs: 10_000, ...options };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function waitUntilGone(pid: number): Promise<void> {
  for (const deadline = Date.now() + 5000; Date.now() < deadline; await delay(20)) if (!isAlive(pid)) return;
  throw new Error(`Process ${pid} is still there.`);
}

describe('a run of a tool', () => {
  it('gives all of the output and what was said beside it', async () => {
    const { output, stderr } = await runTool(shell('head -c 3000000 /dev/zero; echo warning >&2'), signal());
    expect([output.length, stderr]).toEqual([3_000_000, 'warning\n']);
  });

  it('fails after all of its output when the exit code is not 0, with the first complaint in the message', async () => {
    const complaints = Array.from({ length: 40 }, (_, index) => `echo line ${index} >&2`).join(';');
    const run = shell(`echo out; echo 'x: error: no such table' >&2; ${complaints}; exit 7`);
    await using child = await startTool(run, signal());
    const seen: string[] = [];
    const reading = (async () => {
      for await (const piece of child.output) seen.push(piece.toString());
    })();
    await expect(reading).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringMatching(/exit code 7.*x: error: no such table \/ line 0/),
      details: { exitCode: 7 },
    });
    expect(seen).toEqual(['out\n']);
    await expect(child.finish()).rejects.toMatchObject({ code: 'tool-failed' });
  });

  it('keeps only the end of what is said on stderr', async () => {
    const error = await runTool(shell('head -c 300000 /dev/zero | tr "\\0" a >&2; exit 1'), signal()).catch(
      (caught: unknown) => caught,
    );
    expect(error).toMatchObject({ details: { stderr: 'a'.repeat(16_384) } });
  });

  it('ends the whole process group when it is aborted, even one that ignores a polite request', async () => {
    const controller = new AbortController();
    await using child = await startTool(
      shell('trap "" TERM; sleep 1000 & echo $!; wait; sleep 1000'),
      controller.signal,
    );
    let grandchild = 0;
    const reading = (async () => {
      for await (const piece of child.output) {
        grandchild = Number(piece.toString());
        controller.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
    await waitUntilGone(grandchild);
    await waitUntilGone(child.processId);
  });

  it('is ended with its children when it is disposed', async () => {
    const child = await startTool(shell('sleep 1000 & echo $!; wait'), signal());
    const { value } = await child.output[Symbol.asyncIterator]().next();
    await child[Symbol.asyncDispose]();
    await waitUntilGone(Number(String(value)));
    await waitUntilGone(child.processId);
  });

  it('is given up after a silence, but not while nobody listens', async () => {
    const run = shell('echo a; sleep 1000', { stallTimeoutMs: 150 });
    await using child = await startTool(run, signal());
    const reading = (async () => {
      for await (const _piece of child.output) await delay(400);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'stalled', retryable: true });
    const slowReader = await startTool(shell('echo a; sleep 0.2; echo b', { stallTimeoutMs: 2000 }), signal());
    const seen: string[] = [];
    for await (const piece of slowReader.output) {
      await delay(300);
      seen.push(piece.toString());
    }
    expect(seen.join('')).toBe('a\nb\n');
    await slowReader[Symbol.asyncDispose]();
  });

  it('takes input, and is given up when it takes none', async () => {
    await using counting = await startTool(shell('wc -c', { input: true }), signal());
    for (let index = 0; index < 50; index++) await counting.write(Buffer.alloc(100_000));
    await counting.endInput();
    const pieces: string[] = [];
    for await (const piece of counting.output) pieces.push(piece.toString());
    expect(pieces.join('').trim()).toBe('5000000');
    await using deaf = await startTool(shell('sleep 1000', { input: true, stallTimeoutMs: 150 }), signal());
    const writing = (async () => {
      for (;;) await deaf.write(Buffer.alloc(100_000));
    })();
    await expect(writing).rejects.toMatchObject({ code: 'stalled' });
  });

  it('tells its own reason when it goes away before it has read everything', async () => {
    await using child = await startTool(shell("echo 'error: enough' >&2; exit 3", { input: true }), signal());
    const writing = (async () => {
      for (;;) await child.write(Buffer.alloc(100_000));
    })();
    await expect(writing).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringContaining('error: enough'),
    });
    await child.endInput();
    await using content = await startTool(shell('exit 0', { input: true }), signal());
    const more = (async () => {
      for (;;) await content.write(Buffer.alloc(100_000));
    })();
    await expect(more).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringContaining('before it had read'),
    });
  });

  it('that cannot be started says so', async () => {
    const { tool } = shell('');
    await expect(startTool({ ...shell(''), tool: { ...tool, path: '/nowhere/psql' } }, signal())).rejects.toMatchObject(
      { code: 'tool-failed' },
    );
    await expect(startTool(shell('true'), AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' });
  });

  it('sees nothing of the surroundings that would change what it does', async () => {
    process.env['PGOPTIONS'] = '-c DateStyle=German';
    process.env['LC_ALL'] = 'de_DE.UTF-8';
    try {
      const { output } = await runTool(
        shell('echo "$PGOPTIONS|$LC_ALL|$A"; test -n "$HOME" && test -n "$PATH"', { env: { A: 'b' } }),
        signal(),
      );
      expect(output.toString()).toBe('|C|b\n');
    } finally {
      delete process.env['PGOPTIONS'];
      delete process.env['LC_ALL'];
    }
  });
});

describe('looking for a tool', () => {
  let folder: string;
  const fake = async (place: string, version: string): Promise<void> => {
    await mkdir(join(folder, place), { recursive: true });
    const path = join(folder, place, 'pg_dump');
    await writeFile(path, `#!/bin/sh\necho 'pg_dump (PostgreSQL) ${version}'\n`);
    await chmod(path, 0o755);
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cellar-tools-'));
    await fake('versions/13/bin', '13.20');
    await fake('versions/9/bin', '9.6.1');
    await fake('versions/16/bin', '16.4 (Debian 16.4-1)');
    await fake('versions/17/bin', '17beta1');
    await fake('path', '14.2');
    await mkdir(join(folder, 'broken'));
    await writeFile(join(folder, 'broken', 'pg_dump'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  });
  afterAll(async () => await rm(folder, { recursive: true }));
  const places = () => ({
    versionsFolder: join(folder, 'versions'),
    searchPath: [join(folder, 'broken'), join(folder, 'path')],
  });

  it.each([
    [9, '9.6.1'],
    [13, '13.20'],
    [14, '14.2'],
    [15, '16.4'],
    [17, '17beta1'],
  ])('for a server of %i takes the oldest that is new enough', async (major, version) => {
    expect(await findTool('pg_dump', major, signal(), places())).toMatchObject({ version });
  });

  it('names the package to install when there is none, or only older ones', async () => {
    const tooOld = findTool('pg_dump', 18, signal(), places());
    await expect(tooOld).rejects.toMatchObject({
      code: 'tool-missing',
      message: expect.stringContaining('17 is too old'),
      hint: expect.stringContaining('postgresql-client-18'),
    });
    const missing = findTool('pg_restore', 15, signal(), places());
    await expect(missing).rejects.toMatchObject({
      code: 'tool-missing',
      message: expect.stringContaining('not installed'),
      hint: expect.stringContaining('postgresql-client-15'),
    });
  });
});
