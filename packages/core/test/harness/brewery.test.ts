import { describe, expect, it } from 'vitest';
import { appendRows, createBrewery, updateRange } from '../../src/testing/brewery.ts';
import { type TestDatabase, testDatabase } from './databases.ts';

const signal = AbortSignal.timeout(120_000);

async function textBytes({ cluster, name }: TestDatabase): Promise<number> {
  const tables = await cluster.query<{ name: string }>(
    `SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`,
    name,
  );
  let bytes = 0;
  for (const table of tables) bytes += Buffer.byteLength(await cluster.psql(`COPY ${table.name} TO STDOUT`, name));
  const [objects] = await cluster.query<{ bytes: string }>(
    'SELECT sum(length(lo_get(oid)))::text AS bytes FROM pg_largeobject_metadata',
    name,
  );
  return bytes + Number(objects?.bytes ?? 0);
}

async function counts({ cluster, name }: TestDatabase): Promise<{ readings: number; events: number }> {
  const [row] = await cluster.query<{ readings: number; events: number }>(
    'SELECT (SELECT count(*)::int FROM readings) AS readings, (SELECT count(*)::int FROM events) AS events',
    name,
  );
  return row ?? { readings: 0, events: 0 };
}

describe('the sample brewery', () => {
  it('has the size it was ordered in', async () => {
    await using database = await testDatabase();
    await createBrewery(database.url, { megabytes: 20 }, signal);
    const bytes = await textBytes(database);
    expect(bytes).toBeGreaterThan(19_000_000);
    expect(bytes).toBeLessThan(22_000_000);
  });

  it('grows by the share that is asked for, after the last row in time', async () => {
    await using database = await testDatabase('brewery');
    const { cluster, name, url } = database;
    const before = await counts(database);
    const [last] = await cluster.query<{ at: string }>('SELECT max(measured_at)::text AS at FROM readings', name);
    await appendRows(url, 0.02, signal);
    const after = await counts(database);
    expect(after.readings / before.readings).toBeCloseTo(1.02, 3);
    expect(after.events / before.events).toBeCloseTo(1.02, 3);
    const later = await cluster.query('SELECT 1 FROM readings WHERE measured_at > $1', name, [last?.at]);
    expect(later.length).toBeGreaterThanOrEqual(after.readings - before.readings - 1);
    const [next] = await cluster.query(`SELECT nextval('readings_id_seq')::int AS id`, name);
    expect(next).toEqual({ id: after.readings + 1 });
  });

  it('is corrected in one stretch of time, by the share that is asked for', async () => {
    await using database = await testDatabase('brewery');
    const { cluster, name, url } = database;
    const { events } = await counts(database);
    await updateRange(url, 0.01, signal);
    const [changed] = await cluster.query<{ rows: number; span: number }>(
      `SELECT count(*)::int AS rows, (max(id) - min(id) + 1)::int AS span FROM events WHERE payload ? 'reviewed'`,
      name,
    );
    expect((changed?.rows ?? 0) / events).toBeCloseTo(0.01, 2);
    expect(changed?.span).toBe(changed?.rows);
  });

  it('stops when it is told to, and says so', async () => {
    await using database = await testDatabase();
    const stop = new AbortController();
    const work = createBrewery(database.url, { megabytes: 2000 }, stop.signal);
    const failure = expect(work).rejects.toMatchObject({ code: 'cancelled' });
    const busy = async (): Promise<boolean> =>
      (
        await database.cluster.query(
          `SELECT 1 FROM pg_stat_activity WHERE application_name = 'brewery' AND datname = $1 AND query LIKE '%INSERT INTO readings%'`,
          'postgres',
          [database.name],
        )
      ).length > 0;
    while (!(await busy()));
    stop.abort();
    await failure;
  });
});
