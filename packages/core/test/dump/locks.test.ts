import { describe, expect, it } from 'vitest';
import { openDump } from '../../src/engine/postgres/dump.ts';
import { CellarError } from '../../src/errors.ts';
import { type TestDatabase, testDatabase } from '../harness/databases.ts';
import { collect, dumpOptions, dumpWhole, SMALLEST_PIECES } from './collect-dump.ts';
import { session, waitUntil } from './sessions.ts';

const signal = (): AbortSignal => AbortSignal.timeout(50_000);

async function withRows(): Promise<TestDatabase> {
  const database = await testDatabase();
  await database.cluster.psql(
    'CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 5000); CREATE TABLE "Other" (id int)',
    database.name,
  );
  return database;
}

describe('a dump and the locks of others', () => {
  it('has all rows of a table that is emptied and refilled all the time, copied or archived', async () => {
    await using database = await withRows();
    await using other = await session(database);
    let stopped = false;
    const emptying = (async () => {
      while (!stopped)
        await other.query('BEGIN; TRUNCATE orders; INSERT INTO orders SELECT generate_series(1, 5000); COMMIT');
    })();
    for (let round = 0; round < 12; round++) {
      try {
        const sizes = round % 2 === 0 ? SMALLEST_PIECES : undefined;
        const dump = await dumpWhole(database.url, dumpOptions({ lockTimeoutMs: 500 }), sizes);
        expect(dump.entries.find(({ name }) => name === 'public.orders')?.rows).toBe(5000);
      } catch (error) {
        // A TRUNCATE that waits for our lock keeps pg_dump and the copies from theirs: an error, never a shorter table.
        expect(error).toMatchObject({ code: 'database-locked', retryable: true });
      }
    }
    stopped = true;
    await emptying;
    const after = await dumpWhole(database.url);
    expect(after.entries.find(({ name }) => name === 'public.orders')?.rows).toBe(5000);
  });

  it('has the rows of a table whose emptying and refilling it had to wait for', async () => {
    await using database = await withRows();
    for (const sizes of [SMALLEST_PIECES, undefined]) {
      await using other = await session(database);
      await other.query('BEGIN; TRUNCATE orders; INSERT INTO orders SELECT generate_series(1, 4000)');
      const dumped = dumpWhole(database.url, dumpOptions(), sizes);
      const waiting = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'";
      await waitUntil(async () => (await database.cluster.query(waiting, database.name)).length > 0);
      await other.query('COMMIT');
      // A snapshot of before the COMMIT would find the new rows invisible and the old ones gone: none at all.
      expect((await dumped).entries.find(({ name }) => name === 'public.orders')?.rows).toBe(4000);
    }
  });

  it('names the locked table and who holds the lock when it is not granted in time', async () => {
    await using database = await withRows();
    await using other = await session(database);
    await other.query('BEGIN; LOCK TABLE "Other" IN ACCESS EXCLUSIVE MODE');
    const error = await dumpWhole(database.url, dumpOptions({ lockTimeoutMs: 200 })).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(CellarError);
    expect(error).toMatchObject({
      code: 'database-locked',
      message: expect.stringContaining(`public."Other" was not granted within 0.2 s: session ${other.pid}`),
      hint: expect.stringContaining(`pg_terminate_backend(${other.pid})`),
    });
  });

  it('keeps tables from being dropped, emptied or changed until it is disposed', async () => {
    await using database = await withRows();
    await using other = await session(database);
    {
      await using dump = await openDump(database.url, dumpOptions(), signal());
      for (const change of [
        'DROP TABLE orders',
        'TRUNCATE orders',
        'ALTER TABLE orders ADD x int',
        'ALTER TABLE orders RENAME TO old',
      ]) {
        await expect(other.query(`SET lock_timeout = '50ms'; ${change}`)).rejects.toThrow(/lock timeout/);
      }
      const { entries } = await collect(dump, signal());
      expect(entries.find(({ name }) => name === 'public.orders')?.rows).toBe(5000);
    }
    await waitUntil(
      async () =>
        await other.query('DROP TABLE orders').then(
          () => true,
          () => false,
        ),
    );
  });

  it('says that a table is locked when somebody waits for it with a change while the dump runs', async () => {
    await using database = await withRows();
    await using other = await session(database);
    await using dump = await openDump(database.url, dumpOptions({ lockTimeoutMs: 300 }), signal(), SMALLEST_PIECES);
    const change = other.query('TRUNCATE orders');
    await waitUntil(
      async () =>
        (
          await database.cluster.query(
            "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'",
            database.name,
          )
        ).length > 0,
    );
    await expect(collect(dump, signal())).rejects.toMatchObject({ code: 'database-locked' });
    await dump[Symbol.asyncDispose]();
    await change;
  });

  it('sees what was committed before it was opened, and nothing that came later', async () => {
    await using database = await withRows();
    await using dump = await openDump(database.url, dumpOptions(), signal(), SMALLEST_PIECES);
    await database.cluster.psql(
      'INSERT INTO orders SELECT 1 FROM generate_series(1, 9999); CREATE TABLE late (id int); DELETE FROM orders WHERE id < 100',
      database.name,
    );
    const { entries } = await collect(dump, signal());
    expect(entries.map(({ name, rows }) => [name, rows])).toEqual([
      ['schema', undefined],
      ['public.Other', 0],
      ['public.orders', 5000],
    ]);
  });
});
