import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { openDump } from '../../src/engine/postgres/dump.ts';
import { type PostgresTask, readTask } from '../../src/engine/postgres/dump-task.ts';
import { parseRowsLocator } from '../../src/engine/postgres/locator.ts';
import { sharedCluster, type TestDatabase, testDatabase } from '../harness/databases.ts';
import { dumpOptions, dumpWhole, NO_COPIES, SMALLEST_PIECES, stockRows } from './collect-dump.ts';

/** Each would be something else to a shell, a pattern, a regular expression or an option. */
const ODD_NAMES = [
  'UPPER',
  'with space',
  'with.dot',
  'with"quote',
  "with'apostrophe",
  'with\nnewline',
  '-leading-dash',
  '--exclude-table-data=x',
  'Привет',
  '日本語',
  'a|b',
  'star*',
  'question?',
  'dollar$',
  'back\\slash',
  '(paren',
  '[bracket]',
  '{brace}',
  'plus+',
  '^caret',
  'select',
  'percent%s',
  'é',
];

async function databaseIn(encoding: string, sql: string): Promise<TestDatabase> {
  const cluster = sharedCluster();
  const name = await cluster.createDatabase(undefined, { clauses: `ENCODING '${encoding}' LOCALE 'C'` });
  await cluster.psql(`SET client_encoding = 'UTF8';\n${sql}`, name);
  return { cluster, name, url: cluster.url(name), [Symbol.asyncDispose]: async () => await cluster.dropDatabase(name) };
}

describe('a dump of', () => {
  it('tables with odd names has each once, copied or archived, and keeps those that only look alike apart', async () => {
    await using database = await testDatabase();
    const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
    const schemas = ['public', 'Schéma.1', '-s', 'a'];
    const statements = schemas.flatMap((schema) => [
      `CREATE SCHEMA IF NOT EXISTS ${quoted(schema)};`,
      ...ODD_NAMES.map(
        (name, index) =>
          `CREATE TABLE ${quoted(schema)}.${quoted(name)} (${quoted(name)} int); INSERT INTO ${quoted(schema)}.${quoted(name)} SELECT generate_series(1, ${index + 1});`,
      ),
    ]);
    await database.cluster.psql(statements.join('\n'), database.name);
    const names: string[][] = [];
    for (const sizes of [SMALLEST_PIECES, NO_COPIES]) {
      const { entries, bytes } = await dumpWhole(database.url, dumpOptions(), sizes);
      const rows = entries.filter(({ kind }) => kind === 'rows');
      expect(new Set(rows.map(({ name }) => name)).size).toBe(schemas.length * ODD_NAMES.length);
      expect(
        rows.map(parseRowsLocator).every(({ from }) => from === (sizes === SMALLEST_PIECES ? 'copy' : 'archive')),
      ).toBe(true);
      for (const { name, table, rows: count } of rows) {
        const expected = ODD_NAMES.indexOf(table?.name ?? '') + 1;
        expect([name, count, bytes.get(name)?.toString()]).toEqual([
          name,
          expected,
          Array.from({ length: expected }, (_, n) => `${n + 1}\n`).join(''),
        ]);
      }
      names.push(rows.map(({ name }) => name).sort());
    }
    expect(names[0]).toEqual(names[1]);
  });

  it('tables among a thousand takes all of them, and copies only the large one', async () => {
    await using database = await testDatabase();
    await database.cluster.psql(
      `SELECT format('CREATE TABLE t%s (id int); INSERT INTO t%s VALUES (%s);', n, n, n) FROM generate_series(1, 1000) n \\gexec
       CREATE TABLE large AS SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;`,
      database.name,
    );
    const { entries } = await dumpWhole(database.url);
    const rows = entries.filter(({ kind }) => kind === 'rows');
    expect(rows).toHaveLength(1001);
    expect(rows.filter((entry) => parseRowsLocator(entry).from === 'copy').map(({ name }) => name)).toEqual([
      'public.large',
    ]);
    expect(rows.reduce((sum, { rows: count }) => sum + (count ?? 0), 0)).toBe(21_000);
    // A statement per table is what it costs at worst; all are copied within their locks.
    const copied = await dumpWhole(database.url, dumpOptions(), SMALLEST_PIECES);
    expect(
      copied.entries.filter((entry) => entry.kind === 'rows' && parseRowsLocator(entry).from === 'copy'),
    ).toHaveLength(1001);
  });

  it('an empty database has its definitions and nothing else', async () => {
    await using database = await testDatabase();
    const { entries, bytes } = await dumpWhole(database.url);
    expect(entries.map(({ name }) => name)).toEqual(['schema']);
    expect(bytes.get('schema')?.subarray(0, 5).toString()).toBe('PGDMP');
  });

  it('dropped, generated and identity columns, tables without columns and rows with every escape gives what pg_dump gives', async () => {
    await using database = await testDatabase();
    await database.cluster.psql(
      `CREATE TABLE escapes (id int GENERATED ALWAYS AS IDENTITY, gone text, t text, twice int GENERATED ALWAYS AS (id * 2) STORED, "order" bytea);
       ALTER TABLE escapes DROP COLUMN gone;
       INSERT INTO escapes (t, "order") SELECT t, convert_to(t, 'UTF8') FROM unnest(ARRAY[E'\\\\.', E'a\\nb', E'\\r', E'\\t', E'\\\\N', '', NULL, E'\\\\', E'\\b\\f\\v', E'\\u0001', 'x']) t;
       CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
       CREATE TABLE all_dropped (a int); INSERT INTO all_dropped VALUES (1), (2), (3); ALTER TABLE all_dropped DROP COLUMN a;
       CREATE TABLE only_generated (a int GENERATED ALWAYS AS (1) STORED); INSERT INTO only_generated DEFAULT VALUES;
       CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
       CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
       CREATE TYPE colour AS ENUM ('red', 'green');
       CREATE TABLE by_hash (c colour, n int) PARTITION BY HASH (c);
       CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
       CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
       INSERT INTO by_hash SELECT (ARRAY['red', 'green']::colour[])[1 + n % 2], n FROM generate_series(1, 10) n;`,
      database.name,
    );
    const stock = await stockRows(database);
    const { entries, bytes } = await dumpWhole(database.url, dumpOptions(), SMALLEST_PIECES);
    const rows = entries.filter(({ kind }) => kind === 'rows');
    expect(Object.fromEntries(rows.map(({ name, rows: count }) => [name, count]))).toMatchObject({
      'public.escapes': 11,
      'public.no_columns': 2,
      'public.all_dropped': 3,
      'public.only_generated': 1,
      'public.parent': 1,
      'public.child': 1,
      'public.unlogged': 1,
    });
    for (const { name } of rows) expect(bytes.get(name)?.toString(), name).toBe(stock.get(name)?.toString());
    const from = Object.fromEntries(rows.map((entry) => [entry.name, parseRowsLocator(entry).from]));
    expect(from).toMatchObject({
      'public.escapes': 'copy',
      'public.no_columns': 'archive',
      'public.by_hash_0': 'archive',
      'public.by_hash_1': 'archive',
    });
    const escapes = rows
      .map((entry) => ({ entry, locator: parseRowsLocator(entry) }))
      .find(({ entry }) => entry.name === 'public.escapes');
    if (escapes?.locator.from !== 'copy') throw new Error('escapes was not copied');
    expect(Buffer.from(escapes.locator.copyStatement, 'base64').toString()).toBe(
      'COPY public.escapes (id, t, "order") FROM stdin;\n',
    );
  });

  it.each([
    ['LATIN1', 'naïve', 'Ärger über Öl'],
    ['EUC_JP', '表', '能表示ソ十構\\.'],
    ['SQL_ASCII', 'plain', 'ÄÖÜ 表示'],
  ])('a database in %s keeps its encoding, in rows and in names', async (encoding, name, text) => {
    await using database = await databaseIn(
      encoding,
      `CREATE TABLE plain (id int, "${name}" text); INSERT INTO plain VALUES (1, '${text}'), (2, E'a\\\\nb'), (3, NULL);
       CREATE TABLE ascii (id int, t text); INSERT INTO ascii SELECT n, '${text}' FROM generate_series(1, 500) n;
       CREATE TABLE "x${name}" (t text); INSERT INTO "x${name}" VALUES ('${text}');`,
    );
    const stock = [...(await stockRows(database))];
    const { entries, bytes, source } = await dumpWhole(database.url, dumpOptions(), SMALLEST_PIECES);
    expect(source.encoding).toBe(encoding);
    const rows = entries.filter(({ kind }) => kind === 'rows');
    expect(rows.map(({ name: entry }) => entry).sort()).toEqual(
      ['public.ascii', 'public.plain', `public.x${name}`].sort(),
    );
    expect(rows.filter((entry) => parseRowsLocator(entry).from === 'copy').map((entry) => entry.name)).toContain(
      'public.ascii',
    );
    const stockBytes = stock.map(([, value]) => value.toString('latin1')).sort();
    expect(rows.map((entry) => bytes.get(entry.name)?.toString('latin1')).sort()).toEqual(stockBytes);
  });

  it('a database in SQL_ASCII takes bytes of no encoding as they are, and refuses tables that it cannot name', async () => {
    await using database = await databaseIn(
      'SQL_ASCII',
      `CREATE TABLE t (a text); INSERT INTO t SELECT convert_from('\\xff80e9'::bytea, 'SQL_ASCII') FROM generate_series(1, 3);`,
    );
    const { bytes } = await dumpWhole(database.url, dumpOptions(), SMALLEST_PIECES);
    expect(bytes.get('public.t')?.toString('latin1')).toBe('\xff\x80\xe9\n'.repeat(3));
    await database.cluster.psql(
      `DO $$ BEGIN EXECUTE format('CREATE TABLE %I (a int)', convert_from('\\x78e9'::bytea, 'SQL_ASCII')); END $$`,
      database.name,
    );
    await expect(dumpWhole(database.url)).rejects.toMatchObject({
      code: 'invalid-input',
      hint: expect.stringContaining('SQL_ASCII'),
    });
    const without = await dumpWhole(database.url, dumpOptions({ filters: { excludeTables: ['x?'] } }));
    expect(without.entries.map(({ name }) => name)).toEqual(['schema', 'public.t']);
  });

  it('a row of 200 MB passes in pieces of less than a megabyte', async () => {
    await using database = await testDatabase();
    await database.cluster.psql(
      `CREATE TABLE huge (id int, b bytea); ALTER TABLE huge ALTER b SET STORAGE EXTERNAL;
       INSERT INTO huge SELECT 1, convert_to(repeat('0123456789abcdef', 12500000), 'UTF8'); INSERT INTO huge VALUES (2, 'x');`,
      database.name,
    );
    const signal = AbortSignal.timeout(55_000);
    for (const sizes of [undefined, NO_COPIES]) {
      await using dump = await openDump(database.url, dumpOptions(), signal, sizes);
      let bytes = 0;
      let rows = 0;
      let largest = 0;
      for (const task of dump.tasks as readonly PostgresTask[]) {
        for await (const part of readTask(task.spec, signal)) {
          for await (const piece of part.bytes) {
            if (part.kind !== 'rows') continue;
            bytes += piece.length;
            largest = Math.max(largest, piece.length);
          }
          rows += part.result().rows ?? 0;
        }
      }
      expect({ bytes, rows }).toEqual({ bytes: '1\t\\\\x\n'.length + 400_000_000 + '2\t\\\\x78\n'.length, rows: 2 });
      expect(largest).toBeLessThan(1 << 20);
    }
  });

  it('what filters choose is what pg_dump chooses', async () => {
    await using database = await testDatabase();
    await database.cluster.psql(
      `CREATE SCHEMA sales; CREATE SCHEMA "Stock"; CREATE TABLE orders (a int); CREATE TABLE "Orders" (a int); CREATE TABLE sales.orders (a int);
       CREATE TABLE sales.order_lines (a int); CREATE TABLE "Stock"."items.v1" (a int); CREATE TABLE "Stock".orders (a int);
       INSERT INTO orders VALUES (1); CREATE VIEW sales.v AS SELECT 1;`,
      database.name,
    );
    const { cluster } = database;
    const cases = [
      { includeSchemas: ['sales'] },
      { includeSchemas: ['"Stock"', 'sal*'] },
      { includeSchemas: ['?tock', 'public'] },
      { excludeSchemas: ['sales', 'p?blic'] },
      { includeTables: ['orders'] },
      { includeTables: ['*.order*'] },
      { includeTables: ['*."Orders"', '"Stock".*'] },
      { includeTables: ['sales.v'] },
      { excludeTables: ['sales.order_*', 'orders'] },
      { excludeTables: ['"Stock"."items.v1"', '*.orders'] },
      { excludeTableData: ['*.orders'] },
      { includeTables: ['*.order(s|_lines)'] },
      { schemaOnly: true },
    ];
    for (const filters of cases) {
      for (const sizes of [SMALLEST_PIECES, NO_COPIES]) {
        const { entries } = await dumpWhole(database.url, dumpOptions({ filters }), sizes);
        const args = [
          ...(filters.includeSchemas ?? []).map((pattern) => `--schema=${pattern}`),
          ...(filters.excludeSchemas ?? []).map((pattern) => `--exclude-schema=${pattern}`),
          ...(filters.includeTables ?? []).map((pattern) => `--table=${pattern}`),
          ...(filters.excludeTables ?? []).map((pattern) => `--exclude-table=${pattern}`),
          ...(filters.excludeTableData ?? []).map((pattern) => `--exclude-table-data=${pattern}`),
          ...(filters.schemaOnly ? ['--schema-only'] : []),
        ];
        const { stdout } = await promisify(execFile)(join(cluster.binaries, 'pg_dump'), args, {
          env: cluster.environment(database.name),
        });
        const stock = [...stdout.matchAll(/^COPY (\S+) \(/gm)].map(([, name]) =>
          name?.replace('"Orders"', 'Orders').replace('"Stock"', 'Stock'),
        );
        const ours = entries.filter(({ kind }) => kind === 'rows').map(({ name }) => name);
        expect(ours.sort(), JSON.stringify(filters)).toEqual(stock.sort());
      }
    }
  });

  it('what filters choose refuses what is no pattern, and what pg_dump could not read', async () => {
    await using database = await testDatabase();
    await expect(dumpWhole(database.url, dumpOptions({ filters: { includeTables: ['a.b.c'] } }))).rejects.toMatchObject(
      { code: 'invalid-input' },
    );
    await expect(dumpWhole(database.url, dumpOptions({ filters: { excludeTables: ['"open'] } }))).rejects.toMatchObject(
      { code: 'invalid-input' },
    );
    await expect(
      dumpWhole(database.url, dumpOptions({ filters: { includeTables: ['nowhere.none'] } })),
    ).rejects.toMatchObject({ code: 'invalid-input', message: expect.stringContaining('no matching tables') });
    // One that is there does not make up for one that is not.
    await using one = await databaseIn('UTF8', 'CREATE TABLE t (a int)');
    await expect(
      dumpWhole(one.url, dumpOptions({ filters: { includeTables: ['t', 'misspelt'] } })),
    ).rejects.toMatchObject({ code: 'invalid-input', message: expect.stringContaining('misspelt') });
    await using latin = await databaseIn('LATIN1', 'CREATE TABLE t (a int)');
    await expect(dumpWhole(latin.url, dumpOptions({ filters: { excludeTables: ['é'] } }))).rejects.toMatchObject({
      code: 'invalid-input',
    });
  });
});
