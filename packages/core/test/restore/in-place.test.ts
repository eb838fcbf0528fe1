import { describe, expect, it } from 'vitest';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { startCluster } from '../../src/testing/postgres-cluster.ts';
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

  it('refuses, before it touches anything, what the server has no lock table for, and says how large it must be', async () => {
    await using source = await testDatabase('empty');
    await source.cluster.psql('CREATE TABLE t (a int)', source.name);
    const backup = await holdBackup(sharedCluster(), source.name);
    await using small = await startCluster({
      settings: {
        max_locks_per_transaction: 10,
        max_connections: 10,
        max_prepared_transactions: 0,
        max_wal_senders: 0,
      },
    });
    const live = await small.createDatabase();
    await small.psql(`SELECT count(lo_create(0)) FROM generate_series(1, 90)`, live);
    await small.psql(`SELECT count(lo_create(0)) FROM generate_series(1, 90)`, live);
    await expect(restoreDatabase(small.url(live), backup, IN_PLACE, () => {}, signal)).rejects.toMatchObject({
      code: 'conflict',
      hint: expect.stringMatching(/max_locks_per_transaction to \d+/),
    });
  });

  it('refuses a database with subscriptions, which no transaction can remove, and leaves it as it was', async () => {
    await using source = await testDatabase('brewery');
    const backup = await holdBackup(sharedCluster(), source.name);
    await using live = await testDatabase('empty');
    const name = `sub_${live.name}`;
    await live.cluster.psql(
      `CREATE TABLE mine AS SELECT 1 AS a; CREATE SUBSCRIPTION ${name} CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = NONE)`,
      live.name,
    );
    try {
      await expect(restoreDatabase(live.url, backup, IN_PLACE, () => {}, signal)).rejects.toMatchObject({
        code: 'conflict',
        message: expect.stringContaining(name),
      });
      expect(await live.cluster.psql('SELECT a FROM mine', live.name)).toBe('1\n');
    } finally {
      await live.cluster.psql(`DROP SUBSCRIPTION ${name}`, live.name);
    }
  });

  it('leaves the definitions where only they are asked for, and no rows', async () => {
    await using source = await testDatabase('brewery');
    const backup = await holdBackup(sharedCluster(), source.name);
    await using live = await testDatabase('empty');
    await restoreDatabase(live.url, backup, { ...IN_PLACE, content: 'schema' }, () => {}, signal);
    const differences = await compareDatabases(source.url, live.url);
    expect(differences.filter((line) => line.startsWith('schema'))).toEqual([]);
    const filled = await live.cluster.psql(
      `SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND pg_relation_size(oid) > 0`,
      live.name,
    );
    expect(filled).toBe('0\n');
  });
});
