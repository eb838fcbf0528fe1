/**
 * The command is killed, starved and cut off at many points of its way, on a server of its own that may come to harm. After each:
 * no listed backup is unrestorable, the database is untouched, the next backup works, and what was uploaded is not uploaded again.
 */

import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createBrewery } from '../../core/src/testing/brewery.ts';
import { compareDatabases } from '../../core/src/testing/compare-databases.ts';
import { type Cluster, startCluster } from '../../core/src/testing/postgres-cluster.ts';
import { cellar, cellarJson, type Environment, type Running, startCellar, temporaryFolder } from './cellar.ts';

const run = promisify(execFile);

/** Enough for several packs, so that a killed backup leaves whole ones. */
const MEGABYTES = 120;

let cluster: Cluster;
const SOURCE = 'brewery';

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.createDatabase(SOURCE);
  await createBrewery(cluster.url(SOURCE), { megabytes: MEGABYTES }, AbortSignal.timeout(100_000));
});

afterAll(async () => await cluster?.stop());

interface Backup {
  readonly id: string;
  readonly raw_bytes: number;
  readonly new_raw_bytes: number;
}

async function newRepository(folder: string): Promise<Environment> {
  const environment = {
    CELLAR_REPO: join(folder, 'repository'),
    CELLAR_PASSPHRASE: 'correct horse battery staple',
    DATABASE_URL: cluster.url(SOURCE),
  };
  expect(await cellar(['init', '--encrypt'], environment)).toMatchObject({ code: 0 });
  return environment;
}

/** Every listed backup can be read to its last byte. */
async function expectAllGood(environment: Environment, backups: number): Promise<void> {
  expect(await cellarJson<readonly Backup[]>(['list'], environment)).toHaveLength(backups);
  expect(await cellar(['verify', '--read-data'], environment)).toMatchObject({ code: 0 });
}

async function packsIn(environment: Environment): Promise<number> {
  const names = await readdir(join(String(environment['CELLAR_REPO']), 'packs'), { recursive: true }).catch(() => []);
  return names.filter((name) => /\/\d*[0-9A-Z]{26}-/.test(name)).length;
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what} did not come to be.`);
    await delay(20);
  }
}

async function noSessionsLeft(database: string): Promise<void> {
  await until(`The end of all sessions in ${database}`, async () => {
    const sessions = await cluster.query('SELECT 1 FROM pg_stat_activity WHERE datname = $1', 'postgres', [database]);
    return sessions.length === 0;
  });
}

async function isRunning(running: Running): Promise<boolean> {
  return running.child.exitCode === null && running.child.signalCode === null;
}

/** Process ids of the command's own dump processes (not of the look at their version). */
async function dumpsOf({ child }: Running): Promise<number[]> {
  const found: number[] = [];
  for (const thread of await readdir(`/proc/${child.pid}/task`).catch(() => [])) {
    const children = await readFile(`/proc/${child.pid}/task/${thread}/children`, 'utf8').catch(() => '');
    for (const pid of children.split(' ').filter(Boolean).map(Number)) {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (/pg_dump\0--format=custom/.test(commandLine)) found.push(pid);
    }
  }
  return found;
}

describe('a backup', () => {
  test('that is killed at many points leaves nothing listed, and the next one reuses what it uploaded', async () => {
    await using folder = await temporaryFolder();
    const environment = await newRepository(folder.path);
    let seen = 0;
    for (const packs of [0, 1, 2]) {
      const backup = startCellar(['backup', '--jobs', '2'], environment);
      await until(`${packs} packs of a backup`, async () => {
        if (!(await isRunning(backup))) throw new Error(`It ended too early: ${backup.output()}`);
        return packs === 0 ? (await dumpsOf(backup)).length > 0 : (await packsIn(environment)) >= packs;
      });
      backup.child.kill('SIGKILL');
      await backup.finished;
      await noSessionsLeft(SOURCE);
      await expectAllGood(environment, 0);
      expect(await packsIn(environment)).toBeGreaterThanOrEqual(seen);
      seen = await packsIn(environment);
    }
    expect(seen).toBeGreaterThanOrEqual(2);
    const whole = await cellarJson<Backup>(['backup', '--jobs', '2'], environment);
    expect(whole.new_raw_bytes).toBeLessThan(whole.raw_bytes * 0.6);
    await expectAllGood(environment, 1);

    await cluster.dropDatabase('copy');
    const restored = await cellar(['restore', 'latest', '--to', cluster.url('copy'), '--mode', 'new'], environment);
    expect(restored).toMatchObject({ code: 0 });
    expect(await compareDatabases(cluster.url(SOURCE), cluster.url('copy'))).toEqual([]);
  }, 180_000);

  test('whose pg_dump or whose connections are ended fails in words, and leaves the earlier backups', async () => {
    await using folder = await temporaryFolder();
    const environment = await newRepository(folder.path);
    expect(await cellar(['backup'], environment)).toMatchObject({ code: 0 });
    const first = await packsIn(environment);

    const killed = startCellar(['backup'], environment);
    await until('pg_dump', async () => (await dumpsOf(killed)).length > 0);
    for (const pid of await dumpsOf(killed)) process.kill(pid, 'SIGKILL');
    expect(await killed.finished).toMatchObject({ code: 1, stderr: expect.stringMatching(/pg_dump/) });

    const copying =
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'brewery' AND query LIKE 'COPY%'";
    const holding =
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'brewery' AND state = 'idle in transaction'";
    for (const [what, sql] of [
      ['a COPY', copying],
      ['the session that holds the snapshot', holding],
    ] as const) {
      const cut = startCellar(['backup'], environment);
      await until(what, async () => {
        if (!(await isRunning(cut))) throw new Error(`It ended too early: ${cut.output()}`);
        return (await cluster.query(sql)).length > 0;
      });
      const { code, stderr } = await cut.finished;
      expect({ what, code }).toEqual({ what, code: 1 });
      expect(stderr).toMatch(/Error: .*(terminat|connection|session|cut|ended)/i);
    }
    await noSessionsLeft(SOURCE);
    await expectAllGood(environment, 1);
    expect(await cellar(['backup'], environment)).toMatchObject({ code: 0 });
    expect(await packsIn(environment)).toBeLessThanOrEqual(first + 3);
    await expectAllGood(environment, 2);
  }, 180_000);

  test('whose server is lost on the network fails in words, and nothing is listed', async () => {
    await using folder = await temporaryFolder();
    const environment = await newRepository(folder.path);
    await using proxy = await cuttingProxy(cluster.port, 20_000_000);
    const url = cluster.url(SOURCE).replace(`:${cluster.port}/`, `:${proxy.port}/`);
    const { code, stderr } = await cellar(['backup'], { ...environment, DATABASE_URL: url });
    expect(code).toBe(1);
    expect(stderr).toMatch(/Error: .*connection/i);
    expect(stderr).not.toContain(cluster.password);
    await noSessionsLeft(SOURCE);
    await expectAllGood(environment, 0);
  }, 120_000);

  test('of a server that crashes fails, and after its recovery the next one works', async () => {
    await using folder = await temporaryFolder();
    const environment = await newRepository(folder.path);
    const backup = startCellar(['backup'], environment);
    const copying = "SELECT pid FROM pg_stat_activity WHERE datname = 'brewery' AND query LIKE 'COPY%'";
    let pids: { pid: number }[] = [];
    await until('a COPY', async () => {
      if (!(await isRunning(backup))) throw new Error(`It ended too early: ${backup.output()}`);
      pids = await cluster.query<{ pid: number }>(copying);
      return pids.length > 0;
    });
    process.kill(pids[0]?.pid ?? 0, 'SIGKILL');
    expect(await backup.finished).toMatchObject({ code: 1 });
    await until('the recovery of the server', async () => {
      return await cluster.query('SELECT 1').then(
        () => true,
        () => false,
      );
    });
    await expectAllGood(environment, 0);
    expect(await cellar(['backup'], environment)).toMatchObject({ code: 0 });
    await expectAllGood(environment, 1);
  }, 120_000);

  test('runs beside another one of the same database, and both are whole', async () => {
    await using folder = await temporaryFolder();
    const environment = await newRepository(folder.path);
    const both = await Promise.all([
      cellar(['backup', '--jobs', '1'], environment),
      cellar(['backup', '--jobs', '1'], environment),
    ]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    await expectAllGood(environment, 2);
  }, 120_000);

  test.runIf(process.getuid?.() === 0)(
    'into a disk that runs full says so, keeps what was there, and works again',
    async () => {
      await using folder = await temporaryFolder();
      const mount = join(folder.path, 'disk');
      await run('mkdir', [mount]);
      await run('mount', ['-t', 'tmpfs', '-o', 'size=30m', 'tmpfs', mount]);
      try {
        const environment = await newRepository(mount);
        const full = await cellar(['backup'], environment);
        expect(full.code).toBe(1);
        expect(full.stderr).toMatch(/full|space/i);
        await expectAllGood(environment, 0);
        await run('mount', ['-o', 'remount,size=200m', mount]);
        const backup = await cellarJson<Backup>(['backup'], environment);
        expect(backup.new_raw_bytes).toBeLessThan(backup.raw_bytes);
        await expectAllGood(environment, 1);
      } finally {
        await run('umount', [mount]);
      }
    },
    120_000,
  );
});

describe('a restore', () => {
  for (const mode of ['swap', 'in-place'] as const) {
    test(`(${mode}) that is killed at many points leaves the live database as it was, and the next one works`, async () => {
      await using folder = await temporaryFolder();
      const environment = await newRepository(folder.path);
      expect(await cellar(['backup'], environment)).toMatchObject({ code: 0 });
      const live = `live_${mode.replace('-', '_')}`;
      await cluster.createDatabase(live);
      await cluster.psql("CREATE TABLE precious (what text); INSERT INTO precious VALUES ('the only copy');", live);
      const restore = ['restore', 'latest', '--to', cluster.url(live), '--mode', mode, '--yes'];

      for (const point of ['the first table', 'an index', 'half a second later']) {
        const running = startCellar(restore, environment);
        await until(point, async () => {
          if (!(await isRunning(running))) throw new Error(`It ended too early: ${running.output()}`);
          const sql =
            point === 'the first table'
              ? "SELECT 1 FROM pg_stat_progress_copy WHERE command = 'COPY FROM'"
              : 'SELECT 1 FROM pg_stat_progress_create_index';
          return (await cluster.query(sql)).length > 0;
        });
        if (point === 'half a second later') await delay(500);
        running.child.kill('SIGKILL');
        await running.finished;
        await noSessionsLeft(live);
        expect(await cluster.query('SELECT what FROM precious', live)).toEqual([{ what: 'the only copy' }]);
      }

      const { code, stderr } = await cellar(restore, environment);
      expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
      expect(await compareDatabases(cluster.url(SOURCE), cluster.url(live))).toEqual([]);
      // Nothing of the killed ones is left: the live database, at most its predecessor, and the source.
      const left = await cluster.query<{ datname: string }>(
        "SELECT datname FROM pg_database WHERE datname LIKE $1 || '%' ORDER BY 1",
        'postgres',
        [live],
      );
      expect(left.map(({ datname }) => datname)).toHaveLength(mode === 'swap' ? 2 : 1);
    }, 240_000);
  }
});

/** Passes connections on to `port` until `bytes` have come back in all; then cuts them and refuses further ones. */
async function cuttingProxy(port: number, bytes: number): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>();
  let left = bytes;
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    }
    client.pipe(upstream);
    upstream.pipe(client);
    upstream.on('data', (piece: Buffer) => {
      left -= piece.length;
      if (left < 0) for (const socket of sockets) socket.destroy();
    });
    if (left < 0) client.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.');
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
