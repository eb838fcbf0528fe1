import { describe, expect, it } from 'vitest';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { holdBackup } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

/** Every key locks both of its tables and their partitions; run in any order at once, they wait for each other in circles. */
const TANGLED = `
  CREATE TABLE a (id int, k int NOT NULL, x int, y int, z int) PARTITION BY LIST (k);
  CREATE TABLE b (id int, k int NOT NULL, x int, y int, z int) PARTITION BY LIST (k);
  CREATE TABLE c (id int PRIMARY KEY, d int);
  CREATE TABLE d (id int PRIMARY KEY, c int REFERENCES c);
  ALTER TABLE c ADD FOREIGN KEY (d) REFERENCES d;
  DO $$ BEGIN
    FOR n IN 0..5 LOOP
      EXECUTE format('CREATE TABLE a_%s PARTITION OF a FOR VALUES IN (%s)', n, n);
      EXECUTE format('CREATE TABLE b_%s PARTITION OF b FOR VALUES IN (%s)', n, n);
    END LOOP;
  END $$;
  ALTER TABLE a ADD PRIMARY KEY (id, k);
  ALTER TABLE b ADD PRIMARY KEY (id, k);
  CREATE INDEX ON a (x); CREATE INDEX ON b (x); CREATE INDEX ON a (y); CREATE INDEX ON b (y); CREATE UNIQUE INDEX ON a (k, id);
  INSERT INTO a SELECT n, n % 6, 1, 1, 1 FROM generate_series(1, 12000) n;
  INSERT INTO b SELECT n, n % 6, 1, 1, 1 FROM generate_series(1, 12000) n;
  INSERT INTO d SELECT n FROM generate_series(1, 6000) n; INSERT INTO c SELECT n, n FROM generate_series(1, 6000) n; UPDATE d SET c = id;
  ALTER TABLE a ADD FOREIGN KEY (id, k) REFERENCES b; ALTER TABLE b ADD FOREIGN KEY (id, k) REFERENCES a;
  ALTER TABLE a ADD FOREIGN KEY (x) REFERENCES c; ALTER TABLE b ADD FOREIGN KEY (x) REFERENCES d;
  DO $$ BEGIN
    FOR n IN 0..5 LOOP
      EXECUTE format('ALTER TABLE a_%s ADD FOREIGN KEY (y) REFERENCES d; ALTER TABLE b_%s ADD FOREIGN KEY (y) REFERENCES c', n, n);
      EXECUTE format('ALTER TABLE a_%s ADD FOREIGN KEY (id, k) REFERENCES b_%s', n, n);
      EXECUTE format('ALTER TABLE b_%s ADD FOREIGN KEY (id, k) REFERENCES a_%s', n, n);
    END LOOP;
  END $$`;

describe('what follows the rows', () => {
  it('comes in parallel without statements that wait for each other in circles', async () => {
    await using source = await testDatabase();
    const cluster = sharedCluster();
    await cluster.psql(TANGLED, source.name);
    const backup = await holdBackup(cluster, source.name);
    for (let round = 0; round < 4; round++) {
      await using target = await testDatabase();
      await cluster.dropDatabase(target.name);
      const options = { ...OPTIONS, mode: 'new', jobs: 6 } as const;
      await restoreDatabase(target.url, backup, options, () => {}, new AbortController().signal);
      expect(await compareDatabases(source.url, target.url)).toEqual([]);
    }
    expect(await cluster.log()).not.toContain('deadlock detected');
  });
});
