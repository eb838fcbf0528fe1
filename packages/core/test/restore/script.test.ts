import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { BackupContents } from '../../src/engine/engine.ts';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import type { ClusterHandle } from '../../src/testing/postgres-cluster.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { holdBackup, streamOf } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;

async function scriptOf(
  cluster: ClusterHandle,
  database: string,
  change: (script: Buffer) => Buffer = (script) => script,
  args: readonly string[] = [],
): Promise<BackupContents> {
  const { stdout } = await run(join(cluster.binaries, 'pg_dump'), [...args], {
    env: cluster.environment(database),
    encoding: 'buffer',
    maxBuffer: 1024 * 1024 * 1024,
  });
  const script = change(stdout);
  const { source } = await holdBackup(cluster, database);
  return {
    source,
    entries: [{ name: 'script', kind: 'script', locator: {} }],
    sizeOf: () => script.length,
    open: () => streamOf(script),
  };
}

describe('a restore of a script', () => {
  it.each(['swap', 'in-place'] as const)(
    'by %s gives back what was dumped, also what --clean and -C would first destroy',
    async (mode) => {
      await using source = await testDatabase('brewery');
      const cluster = sharedCluster();
      const contents = await scriptOf(cluster, source.name, undefined, ['--clean', '--create']);
      await using live = await testDatabase('kitchen-sink');
      const report = await restoreDatabase(live.url, contents, { ...OPTIONS, mode }, () => {}, signal);
      if (report.previous !== undefined) await cluster.dropDatabase(report.previous.database);
      expect(await compareDatabases(source.url, live.url)).toEqual([]);
      expect(report.tables.length).toBeGreaterThan(3);
      // The script names the database it came from: that one is still there.
      expect(await cluster.psql('SELECT 1', source.name)).toBe('1\n');
    },
  );

  it.each(['swap', 'in-place'] as const)('by %s gives back everything that pg_dump covers', async (mode) => {
    await using source = await testDatabase('kitchen-sink');
    const cluster = sharedCluster();
    const contents = await scriptOf(cluster, source.name);
    await using live = await testDatabase('brewery');
    const report = await restoreDatabase(live.url, contents, { ...OPTIONS, mode }, () => {}, signal);
    if (report.previous !== undefined) await cluster.dropDatabase(report.previous.database);
    expect(await compareDatabases(source.url, live.url)).toEqual([]);
  });

  it.each([
    ['swap', 'is cut', (script: Buffer) => script.subarray(0, script.length / 2)],
    ['in-place', 'is cut', (script: Buffer) => script.subarray(0, script.length / 2)],
    ['swap', 'holds a statement that fails', (script: Buffer) => Buffer.concat([Buffer.from('SELECT 1/0;\n'), script])],
    [
      'in-place',
      'holds a statement that fails',
      (script: Buffer) => Buffer.concat([Buffer.from('SELECT 1/0;\n'), script]),
    ],
    [
      'in-place',
      'ends its transaction early',
      (script: Buffer) => Buffer.concat([Buffer.from('COMMIT;\nSELECT 1/0;\n'), script]),
    ],
    [
      'in-place',
      'runs a program',
      (script: Buffer) => Buffer.concat([Buffer.from('\\! touch /tmp/cellar-was-here\n'), script]),
    ],
  ] as const)('by %s leaves the database as it was when the script %s', async (mode, _how, change) => {
    await using source = await testDatabase('brewery');
    const cluster = sharedCluster();
    const contents = await scriptOf(cluster, source.name, change);
    await using live = await testDatabase('empty');
    await cluster.psql(`CREATE TABLE mine AS SELECT 1 AS a; SELECT lo_create(77)`, live.name);
    await expect(restoreDatabase(live.url, contents, { ...OPTIONS, mode }, () => {}, signal)).rejects.toThrow();
    expect(await cluster.psql(`SELECT a FROM mine; SELECT count(*) FROM pg_largeobject_metadata`, live.name)).toBe(
      '1\n1\n',
    );
    expect(await cluster.psql(`SELECT count(*) FROM pg_database WHERE datname LIKE '${live.name}_cellar_%'`)).toBe(
      '0\n',
    );
  });

  it('is refused by parts: chosen tables are for archives', async () => {
    await using source = await testDatabase('empty');
    const contents = await scriptOf(sharedCluster(), source.name);
    const options = { ...OPTIONS, mode: 'in-place', tables: [{ schema: 'public', name: 'a' }] } as const;
    await expect(restoreDatabase(source.url, contents, options, () => {}, signal)).rejects.toMatchObject({
      code: 'invalid-input',
    });
  });
});
