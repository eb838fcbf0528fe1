import { describe, expect, it } from 'vitest';
import type { RestoreOptions, TableName } from '../../src/engine/engine.ts';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, type TestDatabase, testDatabase } from '../harness/databases.ts';
import { type HeldBackup, holdBackup } from './backup-contents.ts';
import { OPTIONS } from './options.ts';

const signal = new AbortController().signal;

const SHOP = `
  CREATE TYPE public.state AS ENUM ('open', 'paid');
  CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := true; RETURN NEW; END $$;
  CREATE TABLE public.customers (id serial PRIMARY KEY, name text UNIQUE);
  CREATE TABLE public.orders (
    id int GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY, customer int NOT NULL REFERENCES public.customers,
    state public.state DEFAULT 'open', touched bool DEFAULT false, note text CHECK (note <> 'public.orders'));
  COMMENT ON TABLE public.orders IS 'about public.orders';
  COMMENT ON COLUMN public.orders.note IS 'free';
  CREATE INDEX orders_state ON public.orders (state) WHERE state = 'open';
  CREATE STATISTICS public.orders_stats ON customer, state FROM public.orders;
  CREATE TRIGGER touch BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.touch();
  ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
  CREATE POLICY mine ON public.orders USING (note = current_user);
  GRANT SELECT ON public.orders TO PUBLIC;
  CREATE TABLE public.lines (order_id int REFERENCES public.orders, n int);
  CREATE TABLE public.readings (at date NOT NULL, v int) PARTITION BY RANGE (at);
  CREATE TABLE public.readings_2023 PARTITION OF public.readings FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
  CREATE TABLE public.readings_2024 PARTITION OF public.readings FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
  CREATE INDEX ON public.readings (at);
  INSERT INTO public.customers (name) SELECT 'c' || n FROM generate_series(1, 50) n;
  INSERT INTO public.orders (customer, note) SELECT 1 + n % 50, 'n' || n FROM generate_series(1, 500) n;
  UPDATE public.orders SET touched = false;
  INSERT INTO public.lines SELECT 100 + n, n FROM generate_series(1, 300) n;
  INSERT INTO public.readings SELECT date '2023-06-01' + n, n FROM generate_series(1, 400) n;
`;

async function shop(): Promise<{ readonly source: TestDatabase; readonly backup: HeldBackup }> {
  const source = await testDatabase('empty');
  await source.cluster.psql(SHOP, source.name);
  return { source, backup: await holdBackup(sharedCluster(), source.name) };
}

function table(name: string, schema = 'public'): TableName {
  return { schema, name };
}

async function restore(url: string, backup: HeldBackup, options: Partial<RestoreOptions>) {
  return await restoreDatabase(url, backup, { ...OPTIONS, mode: 'in-place', ...options }, () => {}, signal);
}

describe('a restore of chosen tables', () => {
  it('replaces changed tables with all that belongs to them, in place, and leaves the others alone', async () => {
    const { source, backup } = await shop();
    await using _source = source;
    await using live = await testDatabase('empty');
    await live.cluster.psql(SHOP, live.name);
    await live.cluster.psql(
      `DELETE FROM lines; DELETE FROM orders WHERE id % 2 = 0; ALTER TABLE orders ADD COLUMN extra int; DROP INDEX orders_state;
       ALTER TABLE orders DISABLE ROW LEVEL SECURITY; INSERT INTO customers (name) VALUES ('new')`,
      live.name,
    );
    const report = await restore(live.url, backup, { tables: [table('orders'), table('lines')], prove: true });
    expect(report.tables.map(({ restoredRows }) => restoredRows).sort()).toEqual([300, 500]);
    expect(await compareDatabases(source.url, live.url)).toEqual([
      expect.stringMatching(/public\.customers: 50 rows in the first, 51/),
      expect.stringMatching(/public\.customers: only in the second/),
      expect.stringMatching(/customers_id_seq/),
    ]);
  });

  it('refuses, without touching anything, to replace a table that others depend on, and says which', async () => {
    const { source, backup } = await shop();
    await using live = source;
    await live.cluster.psql('DELETE FROM lines WHERE n > 10', live.name);
    await expect(restore(live.url, backup, { tables: [table('orders')] })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/lines_order_id_fkey/),
    });
    expect(await live.cluster.psql('SELECT count(*) FROM lines', live.name)).toBe('10\n');
  });

  it('in mode new adds missing tables, brings types and functions along, and refuses those that are there', async () => {
    const { source, backup } = await shop();
    await using _source = source;
    await using live = await testDatabase('empty');
    await live.cluster.psql(
      'CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers SELECT generate_series(1, 50)',
      live.name,
    );
    const report = await restore(live.url, backup, { mode: 'new', tables: [table('orders')] });
    expect(report.warnings).toEqual([]);
    const facts = await live.cluster.psql(
      `SELECT count(*), count(*) FILTER (WHERE touched) FROM orders; SELECT count(*) FROM pg_policy; SELECT nextval('orders_id_seq');
       SELECT count(*) FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'f'`,
      live.name,
    );
    expect(facts).toBe('500|0\n1\n600\n1\n');
    await expect(restore(live.url, backup, { mode: 'new', tables: [table('orders')] })).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('makes a database that does not exist, with the chosen tables and what they need, and names the keys left out', async () => {
    const { source, backup } = await shop();
    await using _source = source;
    const cluster = sharedCluster();
    const name = `${source.name}_made`;
    const report = await restore(cluster.url(name), backup, {
      mode: 'new',
      tables: [table('orders'), table('readings')],
    });
    try {
      expect(report.warnings).toEqual([expect.stringMatching(/orders_customer_fkey was left out/)]);
      const tables = await cluster.psql(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace ORDER BY 1",
        name,
      );
      expect(tables).toBe('orders\nreadings\nreadings_2023\nreadings_2024\n');
      expect(await cluster.psql('SELECT count(*) FROM readings', name)).toBe('400\n');
    } finally {
      await cluster.dropDatabase(name);
    }
  });

  it('into another schema, beside the table of the same name, whatever else has that name in its text', async () => {
    const { source, backup } = await shop();
    await using live = source;
    const report = await restore(live.url, backup, {
      mode: 'new',
      tables: [table('orders'), table('readings')],
      intoSchema: 'Back Up',
    });
    expect(report.tables.reduce((sum, { restoredRows }) => sum + restoredRows, 0)).toBe(900);
    const facts = await live.cluster.psql(
      `SELECT count(*) FROM "Back Up".orders; SELECT obj_description('"Back Up".orders'::regclass);
       SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '"Back Up".orders'::regclass AND contype = 'c';
       SELECT pg_get_serial_sequence('"Back Up".orders', 'id'); SELECT nextval('"Back Up".orders_id_seq');
       SELECT count(*) FROM pg_inherits WHERE inhparent = '"Back Up".readings'::regclass; SELECT count(*) FROM public.orders;
       SELECT datname FROM pg_database WHERE datname LIKE '${live.name}_cellar%'`,
      live.name,
    );
    expect(facts).toBe(
      `500\nabout public.orders\nCHECK ((note <> 'public.orders'::text))\n"Back Up".orders_id_seq\n600\n2\n500\n`,
    );
  });

  it('attaches a chosen partition to its parent again', async () => {
    const { source, backup } = await shop();
    await using live = source;
    await live.cluster.psql('DELETE FROM readings_2024', live.name);
    await restore(live.url, backup, { tables: [table('readings_2024')] });
    expect(await live.cluster.psql('SELECT count(*) FROM readings', live.name)).toBe('400\n');
  });

  it('refuses names that the backup does not hold, and choices that contradict each other', async () => {
    const { source, backup } = await shop();
    await using live = source;
    await expect(restore(live.url, backup, { tables: [table('nothing')] })).rejects.toMatchObject({
      code: 'not-found',
    });
    await expect(restore(live.url, backup, { mode: 'swap', tables: [table('orders')] })).rejects.toMatchObject({
      code: 'invalid-input',
    });
    await expect(restore(live.url, backup, { intoSchema: 'x' })).rejects.toMatchObject({ code: 'invalid-input' });
  });
});

describe('a restore of rows alone', () => {
  it('replaces the rows, keeps keys, triggers and definitions as they are, and does not fire triggers', async () => {
    const { source, backup } = await shop();
    await using _source = source;
    await using live = await testDatabase('empty');
    await live.cluster.psql(SHOP, live.name);
    await live.cluster.psql(
      `COMMENT ON CONSTRAINT lines_order_id_fkey ON lines IS 'kept'; TRUNCATE lines, orders; UPDATE customers SET name = name || 'x';
       SELECT setval('orders_id_seq', 1000)`,
      live.name,
    );
    await restore(live.url, backup, { content: 'data', prove: true });
    expect(await compareDatabases(source.url, live.url, { schema: false })).toEqual([]);
    const kept = await live.cluster.psql(
      `SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'lines_order_id_fkey'; SELECT tgenabled FROM pg_trigger WHERE tgname = 'touch'`,
      live.name,
    );
    expect(kept).toBe('kept\nO\n');
    expect(await live.cluster.psql('SELECT count(*) FROM orders WHERE touched', live.name)).toBe('0\n');
  });

  it('is undone as a whole when a row does not fit a foreign key that is there now', async () => {
    const { source, backup } = await shop();
    await using live = source;
    await live.cluster.psql('UPDATE lines SET n = -n; DELETE FROM customers WHERE id = 1 AND false', live.name);
    await live.cluster.psql(
      'DELETE FROM lines; DELETE FROM orders WHERE customer = 1; DELETE FROM customers WHERE id = 1',
      live.name,
    );
    await expect(restore(live.url, backup, { content: 'data', tables: [table('orders')] })).rejects.toMatchObject({
      message: expect.stringMatching(/orders_customer_fkey/),
    });
    expect(await live.cluster.psql('SELECT count(*) FROM orders', live.name)).toBe('490\n');
  });
});

describe('a restore of definitions alone', () => {
  it('brings the schema and no rows', async () => {
    const { source, backup } = await shop();
    await using _source = source;
    await using live = await testDatabase('brewery');
    const report = await restore(live.url, backup, { mode: 'swap', content: 'schema' });
    await sharedCluster().dropDatabase(report.previous?.database ?? '');
    const differences = await compareDatabases(source.url, live.url);
    expect(differences.filter((line) => line.startsWith('schema'))).toEqual([]);
    expect(
      await live.cluster.psql('SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM customers)', live.name),
    ).toBe('0\n');
  });
});
