import { describe, expect, it } from 'vitest';
import type { RestoreOptions } from '../../src/engine/engine.ts';
import { restoreBeside } from '../../src/engine/postgres/restore-beside.ts';
import { readStoredArchive } from '../../src/engine/postgres/stored-archive.ts';
import { parseTarget } from '../../src/engine/postgres/target.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { holdBackup } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

const signal = new AbortController().signal;

describe('a restore beside the live database', () => {
  it.each([1, 4])('gives back everything that pg_dump covers, compared by pg_dump itself (jobs %d)', async (jobs) => {
    await using source = await testDatabase('kitchen-sink');
    const cluster = sharedCluster();
    const backup = await holdBackup(cluster, source.name);
    await using live = await testDatabase('empty');
    const options: RestoreOptions = { ...OPTIONS, jobs, prove: true };
    const report = await restoreBeside(
      parseTarget(live.url),
      await readStoredArchive(backup, signal),
      options,
      () => {},
      signal,
    );
    expect(await compareDatabases(source.url, live.url)).toEqual([]);
    expect(report.previous?.database).toMatch(/_before_20241108_131200$/);
    expect(report.warnings).toEqual([]);
    await cluster.dropDatabase(report.previous?.database ?? '');
  });
});
