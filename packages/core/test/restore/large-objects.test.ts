import { describe, expect, it } from 'vitest';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { holdBackup } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

describe('large objects', () => {
  // From 17 on pg_dump writes them in groups of a thousand with equal owner and privileges.
  it.each(['swap', 'in-place'] as const)(
    'of several groups come back with owner, privileges and comment (%s)',
    async (mode) => {
      await using source = await testDatabase();
      const cluster = sharedCluster();
      const role = `lo_${source.name}`;
      await cluster.psql(
        `CREATE ROLE ${role};
       SELECT count(lo_from_bytea(0, decode(repeat(md5(n::text), n % 9), 'hex'))) FROM generate_series(1, 2500) n;
       DO $$ DECLARE o oid; BEGIN
         FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE oid::bigint % 7 = 0 LOOP EXECUTE format('COMMENT ON LARGE OBJECT %s IS ''it''''s %s''', o, o); END LOOP;
         FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE oid::bigint % 3 = 0 LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO ${role}, PUBLIC', o); END LOOP;
         FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE oid::bigint % 5 = 0 LOOP EXECUTE format('ALTER LARGE OBJECT %s OWNER TO ${role}', o); END LOOP;
       END $$`,
        source.name,
      );
      const names: string[] = [];
      try {
        const backup = await holdBackup(cluster, source.name);
        await using target = await testDatabase();
        await cluster.psql('SELECT lo_create(16999)', target.name);
        const signal = new AbortController().signal;
        const report = await restoreDatabase(target.url, backup, { ...OPTIONS, mode }, () => {}, signal);
        if (report.previous !== undefined) names.push(report.previous.database);
        expect(await compareDatabases(source.url, target.url)).toEqual([]);
        expect(await cluster.psql('SELECT count(*) FROM pg_largeobject_metadata', target.name)).toBe('2500\n');
      } finally {
        for (const name of [source.name, ...names]) await cluster.dropDatabase(name);
        await cluster.psql(`DROP ROLE ${role}`);
      }
    },
  );
});
