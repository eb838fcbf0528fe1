/** A dump is one moment, however many connections read it and whatever is written meanwhile. */
import pg from 'pg';
import { expect, test } from 'vitest';
import { backupToRepository } from '../../src/backup.ts';
import { testDatabase } from '../harness/databases.ts';
import { dumpOptions, newRepository, restoreTo, SIGNAL, testFolder } from './road.ts';

const TABLES = 6;
const ACCOUNTS = 20_000;
const START = 100;

test('money that moves between many tables during a dump with four jobs adds up after the restore, every time', async () => {
  await using source = await testDatabase();
  await using target = await testDatabase();
  await using folder = await testFolder();
  await using repository = await newRepository(folder);
  const { cluster } = source;
  for (let table = 0; table < TABLES; table++) {
    // Wide rows: tables are large enough that each is read on a connection of its own, some in several stretches.
    await cluster.psql(
      `CREATE TABLE accounts_${table} (id int PRIMARY KEY, balance bigint NOT NULL, padding text NOT NULL);
       INSERT INTO accounts_${table} SELECT i, ${START}, repeat(md5(i::text), 8) FROM generate_series(1, ${ACCOUNTS}) i;`,
      source.name,
    );
  }
  const sumOf = async (database: string): Promise<number> => {
    const all = Array.from({ length: TABLES }, (_, table) => `SELECT sum(balance) AS s FROM accounts_${table}`);
    const [row] = await cluster.query<{ total: string }>(
      `SELECT sum(s)::text AS total FROM (${all.join(' UNION ALL ')}) t`,
      database,
    );
    return Number(row?.total);
  };
  const total = TABLES * ACCOUNTS * START;
  expect(await sumOf(source.name)).toBe(total);

  const stopped = new AbortController();
  let moves = 0;
  const writer = async (): Promise<void> => {
    const client = new pg.Client({ connectionString: source.url });
    await client.connect();
    try {
      while (!stopped.signal.aborted) {
        const [from, to] = [Math.floor(Math.random() * TABLES), Math.floor(Math.random() * TABLES)];
        const account = 1 + Math.floor(Math.random() * ACCOUNTS);
        await client.query('BEGIN');
        await client.query(`UPDATE accounts_${from} SET balance = balance - 7 WHERE id = $1`, [account]);
        await client.query(`UPDATE accounts_${to} SET balance = balance + 7 WHERE id = $1`, [ACCOUNTS + 1 - account]);
        await client.query('COMMIT');
        moves++;
      }
    } finally {
      await client.end();
    }
  };
  const writers = [writer(), writer(), writer()];
  try {
    for (let round = 0; round < 3; round++) {
      const before = moves;
      const manifest = await backupToRepository(repository, {
        url: source.url,
        options: dumpOptions({ jobs: 4 }),
        onProgress() {},
        signal: SIGNAL,
      });
      expect(moves - before).toBeGreaterThan(0);
      await cluster.dropDatabase(target.name);
      await restoreTo(target.url, repository.contents(manifest), { mode: 'new' });
      expect(await sumOf(target.name)).toBe(total);
    }
  } finally {
    stopped.abort();
    await Promise.all(writers);
  }
  expect(await sumOf(source.name)).toBe(total);
});
