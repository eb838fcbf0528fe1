import { describe, expect, it } from 'vitest';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { holdBackup } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

const signal = new AbortController().signal;
const IN_PLACE = { ...OPTIONS, mode: 'in-place' } as const;

describe('a restore in place', () => {
  it('gives back everything that pg_dump covers, in a database full of other things', async () => {
    await using source = await testDatabase('kitchen-sink');
    const cluster = sharedCluster();
    const backup = await holdBackup(cluster, source.name);
    await using live = await testDatabase('kitchen-sink');
    await cluster.psql(
      `CREATE TABLE public.added (id int); CREATE SCHEMA added; CREATE TABLE added.t AS SELECT 1 AS a; SELECT lo_create(0);
       ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC`,
      live.name,
    );
    const report = await restoreDatabase(live.url, backup, { ...IN_PLACE, prove: true }, () => {}, signal);
    expect(await compareDatabases(source.url, live.url)).toEqual([]);
    expect(report.tables.length).toBeGreaterThan(20);
    expect(report.previous).toBeUndefined();
  });
});
