import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { DumpPart, DumpTask } from '../../src/engine/engine.ts';
import { openDump } from '../../src/engine/postgres/dump.ts';
import { type PostgresTask, readTask } from '../../src/engine/postgres/dump-task.ts';
import { CellarError } from '../../src/errors.ts';
import { type TestDatabase, testDatabase } from '../harness/databases.ts';
import { collect, dumpOptions, NO_COPIES, SMALLEST_PIECES } from './collect-dump.ts';
import { waitUntil } from './sessions.ts';

/** Far more than all buffers between the server and us hold, so that a task stands still where its reader does. */
async function withManyRows(): Promise<TestDatabase> {
  const database = await testDatabase();
  await database.cluster.psql(
    'CREATE TABLE events (id int, text text); INSERT INTO events SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 40000) n',
    database.name,
  );
  return database;
}

const ONE_PIECE = { ...SMALLEST_PIECES, segmentBytes: 2 ** 40 };

function taskOf(tasks: readonly DumpTask[], kind: PostgresTask['spec']['kind']): PostgresTask {
  const task = tasks.find((candidate) => (candidate as PostgresTask).spec.kind === kind);
  if (task === undefined) throw new Error(`There is no ${kind} task.`);
  return task as PostgresTask;
}

/** Reads the task up to the first bytes of the table, calls `interfere`, and reads on. */
async function readWith(task: PostgresTask, signal: AbortSignal, interfere: () => Promise<void>): Promise<void> {
  let done = false;
  for await (const part of readTask(task.spec, signal) as AsyncIterable<DumpPart>) {
    for await (const piece of part.bytes) {
      if (done || part.entry !== 'public.events' || piece.length === 0) continue;
      done = true;
      await interfere();
    }
    part.result();
  }
  expect(done).toBe(true);
}

async function backends(database: TestDatabase, condition: string): Promise<number[]> {
  const rows = await database.cluster.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE datname = '${database.name}' AND ${condition}`,
  );
  return rows.map(({ pid }) => pid);
}

async function terminate(database: TestDatabase, condition: string): Promise<void> {
  const pids = await backends(database, condition);
  expect(pids).toHaveLength(1);
  await database.cluster.query(`SELECT pg_terminate_backend(${pids[0]})`);
}

async function pgDumps(database: TestDatabase): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-eo', 'pid,args']);
  // pg_dump of this database alone: its snapshot is of a session of this database, but its arguments do not say which.
  const pids = stdout
    .split('\n')
    .filter((line) => /bin\/pg_dump --format=custom/.test(line))
    .map((line) => Number.parseInt(line, 10));
  const ofDatabase: number[] = [];
  for (const pid of pids) {
    const { stdout: environment } = await promisify(execFile)('cat', [`/proc/${pid}/environ`]).catch(() => ({
      stdout: '',
    }));
    if (environment.split('\0').includes(`PGDATABASE=${database.name}`)) ofDatabase.push(pid);
  }
  return ofDatabase;
}

describe('a dump that is disturbed', () => {
  it('fails when the backend of a copy is ended, and says that an administrator did it', async () => {
    await using database = await withManyRows();
    const signal = AbortSignal.timeout(50_000);
    await using dump = await openDump(database.url, dumpOptions(), signal, ONE_PIECE);
    const reading = readWith(taskOf(dump.tasks, 'copy'), signal, async () => {
      await terminate(database, "query LIKE 'COPY %events%'");
    });
    await expect(reading).rejects.toMatchObject({
      code: 'database-failed',
      retryable: true,
      message: expect.stringContaining('public.events'),
    });
  });

  it('fails when the statement of a copy is cancelled', async () => {
    await using database = await withManyRows();
    const signal = AbortSignal.timeout(50_000);
    await using dump = await openDump(database.url, dumpOptions(), signal, ONE_PIECE);
    const reading = readWith(taskOf(dump.tasks, 'copy'), signal, async () => {
      const [pid] = await backends(database, "query LIKE 'COPY %events%'");
      await database.cluster.query(`SELECT pg_cancel_backend(${pid})`);
    });
    await expect(reading).rejects.toMatchObject({
      code: 'database-failed',
      message: expect.stringMatching(/public\.events.*cancel/),
    });
  });

  it('fails when pg_dump is killed, and when the backend of pg_dump is ended', async () => {
    await using database = await withManyRows();
    const signal = AbortSignal.timeout(50_000);
    await using dump = await openDump(database.url, dumpOptions(), signal, NO_COPIES);
    const killed = readWith(taskOf(dump.tasks, 'archive'), signal, async () => {
      const [pid] = await pgDumps(database);
      process.kill(pid ?? 0, 'SIGKILL');
    });
    await expect(killed).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringContaining('killed by SIGKILL'),
    });
    const ended = readWith(taskOf(dump.tasks, 'archive'), signal, async () => {
      await terminate(database, "query LIKE 'COPY public.events%'");
    });
    await expect(ended).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringMatching(/terminating connection|closed the connection/),
    });
  });

  it('is lost with its coordinator, and never finishes', async () => {
    await using database = await withManyRows();
    const signal = AbortSignal.timeout(50_000);
    await using dump = await openDump(database.url, dumpOptions(), signal, ONE_PIECE);
    const [coordinator] = await backends(database, "state = 'idle in transaction'");
    // Awaited from the start: it may fail before the answer to the next statement is here.
    const refused = expect(collect(dump, signal)).rejects.toBeInstanceOf(CellarError);
    await database.cluster.query(`SELECT pg_terminate_backend(${coordinator})`);
    await refused;
    await waitUntil(() => dump.lost.aborted);
    expect(dump.lost.reason).toMatchObject({ code: 'database-failed' });
    await expect(dump.finish([], signal)).rejects.toMatchObject({ code: 'database-failed' });
  });

  it('leaves no session and no process behind when it is aborted', async () => {
    await using database = await withManyRows();
    for (const kind of ['copy', 'archive'] as const) {
      const controller = new AbortController();
      {
        await using dump = await openDump(
          database.url,
          dumpOptions(),
          controller.signal,
          kind === 'copy' ? ONE_PIECE : NO_COPIES,
        );
        const reading = readWith(taskOf(dump.tasks, kind), controller.signal, async () => {
          controller.abort();
        });
        await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
      }
      await waitUntil(async () => (await backends(database, 'true')).length === 0);
      await waitUntil(async () => (await pgDumps(database)).length === 0);
    }
  });

  it('leaves no session and no process behind when its reader goes away', async () => {
    await using database = await withManyRows();
    const signal = AbortSignal.timeout(50_000);
    for (const kind of ['copy', 'archive'] as const) {
      {
        await using dump = await openDump(database.url, dumpOptions(), signal, kind === 'copy' ? ONE_PIECE : NO_COPIES);
        const gone = new Error('the reader failed');
        await expect(readWith(taskOf(dump.tasks, kind), signal, () => Promise.reject(gone))).rejects.toBe(gone);
      }
      await waitUntil(async () => (await backends(database, 'true')).length === 0);
      await waitUntil(async () => (await pgDumps(database)).length === 0);
    }
  });

  it('is called incomplete when a part is missing or comes twice', async () => {
    await using database = await testDatabase('brewery');
    const signal = AbortSignal.timeout(50_000);
    await using dump = await openDump(database.url, dumpOptions(), signal, {
      ...SMALLEST_PIECES,
      copyFromBytes: 1 << 17,
      segmentBytes: 1 << 20,
    });
    const parts = [];
    for (const task of dump.tasks as readonly PostgresTask[]) {
      for await (const part of readTask(task.spec, signal)) {
        for await (const _piece of part.bytes);
        parts.push(part.result());
      }
    }
    const { entries } = await dump.finish(parts, signal);
    expect(entries.length).toBeGreaterThan(5);
    for (let index = 0; index < parts.length; index++) {
      await expect(dump.finish(parts.toSpliced(index, 1), signal), `without part ${index}`).rejects.toMatchObject({
        code: 'mismatch',
      });
      await expect(dump.finish([...parts, ...parts.slice(index, index + 1)], signal)).rejects.toMatchObject({
        code: 'mismatch',
      });
    }
  });
});
