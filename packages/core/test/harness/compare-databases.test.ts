import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { type TestDatabase, testDatabase } from './databases.ts';

const run = promisify(execFile);

/** Dumps and restores with the stock tools alone. */
async function stockCopy(source: TestDatabase): Promise<TestDatabase> {
  const { cluster } = source;
  const copy = await testDatabase();
  await run(
    '/bin/sh',
    [
      '-c',
      // Warnings of a dump mean that something is missing.
      '"$1/pg_dump" --dbname="$2" 2>&1 | "$1/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$3" >/dev/null',
      'copy',
      cluster.binaries,
      source.name,
      copy.name,
    ],
    { env: { ...cluster.environment(), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' } },
  );
  return copy;
}

/** The stock tools create event triggers before they fill materialized views, and so fire them: rows that were never in the source. */
function beyondTheStockTools(differences: readonly string[]): string[] {
  return differences.filter((difference) => !difference.startsWith('public.ddl_log: '));
}

describe('comparing databases', () => {
  it('finds no more than fired event triggers between the kitchen sink and its round trip through the stock tools', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await stockCopy(source);
    expect(beyondTheStockTools(await compareDatabases(source.url, copy.url))).toEqual([]);
  });

  it('finds no more than fired event triggers between the kitchen sink and its round trip through a custom archive', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase();
    const { cluster } = source;
    await run(
      '/bin/sh',
      [
        '-c',
        '"$1/pg_dump" -Fc "$2" | "$1/pg_restore" --exit-on-error --dbname="$3"',
        'copy',
        cluster.binaries,
        source.name,
        copy.name,
      ],
      { env: { ...cluster.environment(), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' } },
    );
    expect(beyondTheStockTools(await compareDatabases(source.url, copy.url))).toEqual([]);
  });

  it('finds nothing between two breweries of the same seed, and much between different ones', async () => {
    const { createBrewery } = await import('../../src/testing/brewery.ts');
    await using one = await testDatabase();
    await using two = await testDatabase();
    await using other = await testDatabase();
    const signal = AbortSignal.timeout(60_000);
    await createBrewery(one.url, { megabytes: 2, seed: 7 }, signal);
    await createBrewery(two.url, { megabytes: 2, seed: 7 }, signal);
    await createBrewery(other.url, { megabytes: 2, seed: 8 }, signal);
    expect(await compareDatabases(one.url, two.url)).toEqual([]);
    expect((await compareDatabases(one.url, other.url)).join('\n')).toMatch(/public\.readings: the rows differ/);
  });

  /** Each change to a copy of the kitchen sink, and what must be said about it. */
  const CHANGES: readonly (readonly [title: string, change: string, said: RegExp])[] = [
    [
      'a lost row',
      'DELETE FROM public.tree WHERE id = 1000 AND NOT EXISTS (SELECT 1 FROM public.tree t WHERE t.parent_id = 1000); DELETE FROM public.reversed WHERE n = 3',
      /public\.reversed: 20 rows in the first, 19 in the second/,
    ],
    [
      'a doubled row in place of another',
      'UPDATE public.reversed SET n = 4 WHERE n = 3',
      /public\.reversed: the rows differ/,
    ],
    [
      'an empty string where there was none',
      "UPDATE public.texts SET t = '' WHERE id = 2",
      /public\.texts: the rows differ/,
    ],
    ['a zero without its sign', 'UPDATE public.numbers SET f8 = 0 WHERE id = 4', /public\.numbers: the rows differ/],
    [
      'a changed byte in twenty million',
      'UPDATE public.giant_row SET body = overlay(body placing $$T$$ from 10000000) WHERE id = 1',
      /public\.giant_row: the rows differ/,
    ],
    [
      'a lost row of a table without columns',
      'DELETE FROM public.no_columns WHERE ctid = $$(0,1)$$',
      /public\.no_columns: 3 rows in the first, 2/,
    ],
    [
      'a lost row of a partition',
      'DELETE FROM public.by_enum_hash WHERE id = 5',
      /public\.by_enum_hash: 400 rows in the first, 399/,
    ],
    [
      'a lost row beside a foreign partition',
      'DELETE FROM public.with_foreign_part_here',
      /public\.with_foreign_part_here: 1 rows in the first, 0/,
    ],
    [
      'a lost row of an extension',
      "DELETE FROM extensions.cellar_setting_names WHERE name = 'another'",
      /extensions\.cellar_setting_names: 2 rows/,
    ],
    ['a table too many', 'CREATE TABLE public.too_many (a int)', /table public\.too_many: only in the second/],
    ['a lost index', 'DROP INDEX public.expression_index', /schema: only in the first: CREATE INDEX expression_index/],
    [
      'a changed function',
      "CREATE OR REPLACE FUNCTION public.carriage() RETURNS text LANGUAGE sql AS E'SELECT ''one''\\n || ''two''\\r\\n'",
      /schema: /,
    ],
    [
      'a lost privilege on a column',
      'REVOKE SELECT (f8) ON public.numbers FROM ks_reader',
      /schema: only in the first: GRANT SELECT\(f8\)/,
    ],
    [
      'a disabled trigger',
      'ALTER TABLE public.by_range DISABLE TRIGGER on_partitioned',
      /schema: only in the second: ALTER TABLE .* DISABLE TRIGGER on_partitioned/,
    ],
    [
      'a sequence that has moved',
      "SELECT nextval('public.fresh')",
      /sequence public\.fresh: 1 not taken in the first, 1 taken in the second/,
    ],
    [
      'a view that was emptied',
      'REFRESH MATERIALIZED VIEW public.filled WITH NO DATA',
      /materialized view public\.filled: filled in the first, not filled/,
    ],
    ['a lost large object', 'SELECT lo_unlink(600001)', /large object 600001: only in the first/],
    ['a changed byte of a large object', "SELECT lo_put(600003, 1234567, 'x')", /large object 600003: md5/],
    [
      'lost privileges on a large object',
      'REVOKE ALL ON LARGE OBJECT 600002 FROM ks_reader',
      /large object 600002: .*ks_reader/,
    ],
    ['a lost comment on a large object', 'COMMENT ON LARGE OBJECT 600003 IS NULL', /large object 600003: .*very/s],
    [
      'another owner of a large object',
      'ALTER LARGE OBJECT 600001 OWNER TO ks_owner',
      /large object 600001: .*owner ks_owner comment in the second|large object 600001: .*owner ks_owner/,
    ],
    ['a removed extension', 'DROP EXTENSION file_fdw CASCADE', /extension file_fdw: only in the first/],
  ];

  it.each(CHANGES)('finds %s', async (_title, change, said) => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase('kitchen-sink');
    await copy.cluster.psql(`SET search_path = pg_catalog; ${change};`, copy.name);
    expect((await compareDatabases(source.url, copy.url)).join('\n')).toMatch(said);
  });

  it("compares the database's own properties when asked to", async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase('kitchen-sink');
    expect(await compareDatabases(source.url, copy.url, { properties: true })).toEqual([]);
    await copy.cluster.query(
      `ALTER DATABASE ${copy.name} CONNECTION LIMIT 3; GRANT CONNECT ON DATABASE ${copy.name} TO PUBLIC; ALTER DATABASE ${copy.name} RESET timezone`,
    );
    const said = (await compareDatabases(source.url, copy.url, { properties: true })).join('\n');
    expect(said).toMatch(/database connection limit: 50 in the first, 3 in the second/);
    expect(said).toMatch(/database privileges: /);
    expect(said).toMatch(/database settings of all: .*Kathmandu/);
  });
});
