import { type ChildProcess, spawn } from 'node:child_process';
import { access, chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { type ClusterAddress, connectCluster, startCluster } from '../../src/testing/postgres-cluster.ts';
import { testDatabase } from './databases.ts';

const MODULE = fileURLToPath(new URL('../../src/testing/postgres-cluster.ts', import.meta.url));

const exists = async (path: string): Promise<boolean> =>
  await access(path).then(
    () => true,
    () => false,
  );

/** Waits until it is so; fails after half a minute. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 600; waited++) {
    if (await condition()) return;
    await delay(50);
  }
  throw new Error('It did not come to be within 30 s.');
}

/** A cluster in a process of its own, that hangs once the cluster is up. */
async function startElsewhere(parentFolder: string): Promise<{ process: ChildProcess; address: ClusterAddress }> {
  const script = `
    const { startCluster } = await import(${JSON.stringify(MODULE)});
    const { major, binaries, folder, port, password } = await startCluster({ parentFolder: ${JSON.stringify(parentFolder)} });
    console.log(JSON.stringify({ major, binaries, folder, port, password }));
    setInterval(() => {}, 60_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (part: Buffer) => {
    output += part.toString();
  });
  await until(async () => output.endsWith('\n'));
  return { process: child, address: JSON.parse(output) as ClusterAddress };
}

/** A folder that the user `postgres` can reach. */
async function openFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'cellar-clusters-'));
  await chmod(path, 0o777);
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) };
}

async function refuses(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  try {
    await client.connect();
    await client.end();
    return 'let in';
  } catch (error) {
    return String((error as { code?: string }).code);
  }
}

describe('a throwaway cluster', () => {
  it('asks for passwords over TCP and over the socket, and leaves nothing behind', async () => {
    const cluster = await startCluster();
    expect(await refuses(cluster.url())).toBe('let in');
    expect(await refuses(cluster.socketUrl())).toBe('let in');
    expect(await refuses(cluster.url('postgres', 'postgres', 'wrong'))).toBe('28P01');
    expect(await refuses(cluster.socketUrl('postgres', 'postgres', 'wrong'))).toBe('28P01');
    await cluster.stop();
    await cluster.stop();
    expect(await exists(cluster.folder)).toBe(false);
    expect(await refuses(cluster.url())).toBe('ECONNREFUSED');
  });

  it('takes encoding, locale and settings, and says why when it does not start', async () => {
    await using cluster = await startCluster({ encoding: 'LATIN1', settings: { work_mem: '7MB' } });
    expect(await cluster.psql('SHOW server_encoding; SHOW work_mem;')).toBe('LATIN1\n7MB\n');
    await expect(startCluster({ settings: { no_such_setting: 1 } })).rejects.toThrow(/no_such_setting/);
    await expect(startCluster({ major: 7 })).rejects.toThrow(/PostgreSQL 7 server.*apt-get install postgresql-7/s);
  });

  it('ends with the process that started it, also when that is killed', async () => {
    await using parent = await openFolder();
    const { process: owner, address } = await startElsewhere(parent.path);
    expect(await connectCluster(address).query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    owner.kill('SIGKILL');
    await until(async () => !(await exists(address.folder)));
    expect(await refuses(connectCluster(address).url())).toBe('ECONNREFUSED');
  });

  it('is cleared away by the next start when its supervisor was killed too', async () => {
    await using parent = await openFolder();
    const { process: owner, address } = await startElsewhere(parent.path);
    const supervisor = Number(await readFile(join(address.folder, 'supervisor.pid'), 'utf8'));
    // The whole session of the supervisor, its waiting half included, so that nobody is left to end the server.
    process.kill(-supervisor, 'SIGSTOP');
    owner.kill('SIGKILL');
    process.kill(supervisor, 'SIGKILL');
    await until(async () => owner.signalCode !== null);
    expect(await exists(address.folder)).toBe(true);
    process.kill(-supervisor, 'SIGCONT');
    await using _next = await startCluster({ parentFolder: parent.path });
    expect(await exists(address.folder)).toBe(false);
    expect(await refuses(connectCluster(address).url())).toBe('ECONNREFUSED');
  });

  it('keeps its folder when asked to', async () => {
    await using parent = await openFolder();
    const cluster = await startCluster({ parentFolder: parent.path, keep: true });
    await cluster.stop();
    expect(await exists(join(cluster.folder, 'data', 'PG_VERSION'))).toBe(true);
  });
});

describe('a test database', () => {
  it('is a copy of its template, of its own, and gone when disposed', async () => {
    let name: string;
    {
      await using one = await testDatabase('brewery');
      await using two = await testDatabase('brewery');
      name = one.name;
      await one.cluster.query('DELETE FROM batch_documents', one.name);
      expect(await one.cluster.query('SELECT 1 FROM batch_documents', one.name)).toEqual([]);
      expect(await two.cluster.query('SELECT 1 FROM batch_documents', two.name)).not.toEqual([]);
    }
    await using other = await testDatabase();
    expect(await other.cluster.query('SELECT 1 FROM pg_database WHERE datname = $1', 'postgres', [name])).toEqual([]);
  });
});
