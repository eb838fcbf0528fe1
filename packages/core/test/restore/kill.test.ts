import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { BackupContents, RestoreMode } from '../../src/engine/engine.ts';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { type ClusterHandle, startCluster } from '../../src/testing/postgres-cluster.ts';
import { sharedCluster, type TestDatabase, testDatabase } from '../harness/databases.ts';
import { holdBackup, streamOf } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const cluster = sharedCluster();

async function source(): Promise<TestDatabase> {
  const database = await testDatabase('empty');
  await cluster.psql(
    `CREATE TABLE t AS SELECT n, repeat('x', 50) AS x FROM generate_series(1, 20000) n`,
    database.name,
  );
  return database;
}

async function sessionsEnded(database: string): Promise<void> {
  for (;;) {
    const rows = await cluster.query(`SELECT 1 FROM pg_stat_activity WHERE starts_with(datname, $1)`, 'postgres', [
      database,
    ]);
    if (rows.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function killHalfWay(work: object): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-kill-test-'));
  try {
    const path = join(folder, 'work.json');
    await writeFile(path, JSON.stringify(work), { mode: 0o600 });
    const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-child.ts'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [said] = await once(child.stdout, 'data');
    expect(String(said)).toBe('half-way\n');
    child.kill('SIGKILL');
    await once(child, 'exit');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe('kill -9 of a restore half-way', () => {
  it.each(['swap', 'in-place'] as const)(
    'leaves the database as it was (archive, %s), and the next restore works',
    async (mode) => {
      await using from = await source();
      const backup = await holdBackup(cluster, from.name);
      await using live = await testDatabase('empty');
      await cluster.psql('CREATE TABLE mine AS SELECT 1 AS a', live.name);
      const bytes = Object.fromEntries([...backup.bytesOf].map(([name, held]) => [name, held.toString('base64')]));
      await killHalfWay({
        url: live.url,
        contents: { source: backup.source, entries: backup.entries },
        bytes,
        options: { ...OPTIONS, mode },
        stopIn: 'rows',
        skip: 0,
      });
      await sessionsEnded(live.name);
      expect(await cluster.psql('SELECT a FROM mine', live.name)).toBe('1\n');
      await next(live, backup, mode);
    },
  );

  it.each(['swap', 'in-place'] as const)(
    'leaves the database as it was (script, %s), and the next restore works',
    async (mode) => {
      await using from = await source();
      const { source: facts } = await holdBackup(cluster, from.name);
      const { stdout } = await run(join(cluster.binaries, 'pg_dump'), [], {
        env: cluster.environment(from.name),
        encoding: 'buffer',
        maxBuffer: 1e9,
      });
      const backup: BackupContents = {
        source: facts,
        entries: [{ name: 'script', kind: 'script', locator: {} }],
        sizeOf: () => undefined,
        open: () => streamOf(stdout),
      };
      await using live = await testDatabase('empty');
      await cluster.psql('CREATE TABLE mine AS SELECT 1 AS a', live.name);
      // In place the script is read once before, to know that it is whole: then the restore itself is stopped.
      const work = {
        url: live.url,
        contents: { source: facts, entries: backup.entries },
        options: { ...OPTIONS, mode },
      };
      const bytes = { script: stdout.toString('base64') };
      await killHalfWay({ ...work, bytes, stopIn: 'script', skip: mode === 'in-place' ? 1 : 0 });
      await sessionsEnded(live.name);
      expect(await cluster.psql('SELECT a FROM mine', live.name)).toBe('1\n');
      await next(live, backup, mode);
    },
  );
});

async function next(live: TestDatabase, backup: BackupContents, mode: RestoreMode): Promise<void> {
  const report = await restoreDatabase(live.url, backup, { ...OPTIONS, mode }, () => {}, signal);
  expect(await cluster.psql('SELECT count(*) FROM t', live.name)).toBe('20000\n');
  const left = await cluster.query('SELECT 1 FROM pg_database WHERE datname ^@ $1', 'postgres', [
    `${live.name}_cellar_`,
  ]);
  expect(left).toEqual([]);
  if (mode === 'swap') {
    expect(report.warnings).toEqual([expect.stringMatching(/Dropped .* which an interrupted restore had left/)]);
    await cluster.dropDatabase(report.previous?.database ?? '');
  }
}

/** A server whose disk is a small one of its own; undefined where this user may not mount. */
async function onSmallDisk(use: (small: ClusterHandle) => Promise<void>): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-small-disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=160m,mode=777', 'tmpfs', folder]);
  } catch {
    await rm(folder, { recursive: true, force: true });
    return false;
  }
  try {
    await run('chmod', ['755', folder]);
    await run('chmod', ['777', folder]);
    await using small = await startCluster({
      parentFolder: folder,
      settings: {
        shared_buffers: '16MB',
        max_wal_size: '32MB',
        min_wal_size: '32MB',
        wal_level: 'minimal',
        max_wal_senders: 0,
      },
    });
    await use(small);
  } finally {
    await run('umount', [folder]);
    await rm(folder, { recursive: true, force: true });
  }
  return true;
}

describe('a disk of the target that runs full', () => {
  it('is said so, the scratch database goes, the live one stays; and where it can be known, before anything is loaded', async (context) => {
    await using from = await testDatabase('empty');
    await cluster.psql(
      `CREATE TABLE t AS SELECT n, md5(n::text) || repeat('x', 900) AS x FROM generate_series(1, 150000) n`,
      from.name,
    );
    const backup = await holdBackup(cluster, from.name);
    const ran = await onSmallDisk(async (small) => {
      const live = await small.createDatabase();
      await small.psql('CREATE TABLE mine AS SELECT 1 AS a', live);
      await expect(restoreDatabase(small.url(live), backup, OPTIONS, () => {}, signal)).rejects.toMatchObject({
        code: 'storage-full',
      });
      const unknown: BackupContents = { ...backup, sizeOf: () => undefined };
      await expect(restoreDatabase(small.url(live), unknown, OPTIONS, () => {}, signal)).rejects.toMatchObject({
        code: 'database-failed',
        hint: expect.stringMatching(/disk of the database server is full/),
      });
      expect(await small.psql('SELECT a FROM mine', live)).toBe('1\n');
      expect(await small.psql(`SELECT count(*) FROM pg_database WHERE datname LIKE '%cellar%'`)).toBe('0\n');
    });
    if (!ran) context.skip('only root may mount a small disk');
  });
});
