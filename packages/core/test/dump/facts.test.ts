import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postgres } from '../../src/engine/postgres/postgres.ts';
import { parseDetails } from '../../src/engine/postgres/source-facts.ts';
import { type Cluster, startCluster } from '../../src/testing/postgres-cluster.ts';
import { type TestDatabase, testDatabase } from '../harness/databases.ts';
import { dumpOptions, dumpWhole, SMALLEST_PIECES } from './collect-dump.ts';

const signal = (): AbortSignal => AbortSignal.timeout(50_000);

describe('what a dump of a database does not carry', () => {
  it('is read beside it: owner, privileges, comment, limit, settings, locale, extensions, publications', async () => {
    await using database = await testDatabase();
    const { cluster, name } = database;
    await cluster.psql(
      `CREATE ROLE facts_owner; CREATE ROLE facts_reader;
       ALTER DATABASE ${name} OWNER TO facts_owner; REVOKE ALL ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT ON DATABASE ${name} TO facts_reader;
       COMMENT ON DATABASE ${name} IS 'the shop''s "own"'; ALTER DATABASE ${name} CONNECTION LIMIT 42;
       ALTER DATABASE ${name} SET work_mem = '7MB'; ALTER DATABASE ${name} SET search_path = 'a b', public; ALTER ROLE facts_reader IN DATABASE ${name} SET statement_timeout = '1s';
       SELECT pg_create_logical_replication_slot('facts_slot', 'pgoutput'); CREATE PUBLICATION everything FOR ALL TABLES; CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'facts_open';`,
      name,
    );
    try {
      const { source } = await dumpWhole(database.url);
      expect(source).toMatchObject({
        engine: 'postgres',
        database: name,
        encoding: 'UTF8',
        collate: 'C.UTF-8',
        ctype: 'C.UTF-8',
        serverMajor: cluster.major,
        tools: { pg_dump: source.serverVersion },
      });
      expect(source.extensions).toEqual([{ name: 'plpgsql', version: '1.0', schema: 'pg_catalog' }]);
      expect(source.warnings).toEqual([expect.stringContaining('facts_open')]);
      // As it comes back from a manifest.
      expect(parseDetails(JSON.parse(JSON.stringify(source)))).toMatchObject({
        owner: 'facts_owner',
        acl: ['facts_owner=CTc/facts_owner', 'facts_reader=c/facts_owner'],
        comment: 'the shop\'s "own"',
        connectionLimit: 42,
        allowConnections: true,
        tablespace: 'pg_default',
        localeProvider: 'libc',
        standby: false,
        preparedTransactions: ['facts_open'],
        publications: ['everything'],
        replicationSlots: [{ name: 'facts_slot', type: 'logical', active: false }],
        settings: [
          { role: null, settings: ['work_mem=7MB', 'search_path="a b", public'] },
          { role: 'facts_reader', settings: ['statement_timeout=1s'] },
        ],
      });
    } finally {
      await cluster.psql(
        `ROLLBACK PREPARED 'facts_open'; SELECT pg_drop_replication_slot('facts_slot'); ALTER DATABASE ${name} OWNER TO postgres; REVOKE ALL ON DATABASE ${name} FROM facts_reader; ALTER ROLE facts_reader IN DATABASE ${name} RESET ALL; DROP ROLE facts_reader, facts_owner`,
        name,
      );
    }
  });

  it('is refused when it comes back as something else', () => {
    const source = { details: { owner: 1 } } as unknown as Parameters<typeof parseDetails>[0];
    expect(() => parseDetails(source)).toThrow(expect.objectContaining({ code: 'damaged' }));
  });
});

describe('the digest of the schema', () => {
  it('stays while rows and sequences move, is that of a copy, and changes with any definition', async () => {
    await using database = await testDatabase('brewery');
    const digest = async ({ url }: Pick<TestDatabase, 'url'>): Promise<string> =>
      (await dumpWhole(url, dumpOptions({ filters: { excludeTableData: ['*.*'] } }))).source.schemaDigest;
    const first = await digest(database);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    const { cluster, name } = database;
    await cluster.psql(
      "SELECT setval(c.oid::regclass, 4711) FROM pg_class c WHERE relkind = 'S'; SELECT lo_create(0); CREATE TABLE gone (a int); DROP TABLE gone;",
      name,
    );
    expect(await digest(database)).toBe(first);
    const copy = await cluster.createDatabase(undefined, { template: name });
    expect(await digest({ url: cluster.url(copy) })).toBe(first);
    await cluster.dropDatabase(copy);
    const seen = new Set([first]);
    for (const change of [
      'CREATE TABLE extra (a int)',
      "COMMENT ON TABLE extra IS 'x'",
      'ALTER TABLE extra ADD b text DEFAULT 1',
      'CREATE INDEX ON extra (a)',
      'GRANT SELECT ON extra TO PUBLIC',
      'DROP TABLE extra; CREATE TABLE extra2 (a int)',
    ]) {
      await cluster.psql(change, name);
      seen.add(await digest(database));
    }
    expect(seen.size).toBe(7);
  });
});

describe('the digest of the schema of everything there is', () => {
  it('is the same after a restore by the stock tools', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase();
    const { cluster } = source;
    const script = '"$1/pg_dump" -Fc "$2" | "$1/pg_restore" --exit-on-error --dbname="$3"';
    const env = { ...cluster.environment(), PGTZ: 'UTC' };
    await promisify(execFile)('/bin/sh', ['-c', script, 'copy', cluster.binaries, source.name, copy.name], { env });
    expect((await dumpWhole(copy.url)).source.schemaDigest).toBe((await dumpWhole(source.url)).source.schemaDigest);
  });
});

describe('a user who is no superuser', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster();
    await cluster.psql("CREATE ROLE reader LOGIN PASSWORD 'r'; CREATE ROLE limited LOGIN PASSWORD 'l'");
    if (hasReadAllData()) await cluster.psql('GRANT pg_read_all_data TO reader');
  });
  afterAll(async () => await cluster?.stop());

  const hasReadAllData = () => cluster.major >= 14;

  async function filled(
    sql: string,
  ): Promise<{ readonly name: string; readonly reader: string; readonly limited: string }> {
    const name = await cluster.createDatabase();
    await cluster.psql(sql, name);
    if (!hasReadAllData()) await cluster.psql('GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader', name);
    return { name, reader: cluster.url(name, 'reader', 'r'), limited: cluster.url(name, 'limited', 'l') };
  }

  it('with the right to read all tables takes a whole dump, and the globals without passwords, and is told so', async () => {
    const { name, reader } = await filled('CREATE TABLE t AS SELECT generate_series(1, 5000) n');
    const dump = await dumpWhole(reader, dumpOptions({ globals: true }), SMALLEST_PIECES);
    expect(dump.entries.find(({ name: entry }) => entry === 'public.t')?.rows).toBe(5000);
    expect(dump.bytes.get('globals')?.toString()).toMatch(/CREATE ROLE limited/);
    expect(dump.bytes.get('globals')?.toString()).not.toContain('SCRAM-SHA-256$');
    expect(dump.source.warnings).toEqual([expect.stringContaining('without their passwords')]);
    const superuser = await dumpWhole(cluster.url(name), dumpOptions({ globals: true }));
    expect(superuser.bytes.get('globals')?.toString()).toContain('SCRAM-SHA-256$');
    expect(superuser.source.warnings).toEqual([]);
    expect(superuser.entries.map(({ kind }) => kind)).toEqual(['globals', 'schema', 'rows']);
  });

  it('is refused what it may not read, with the tables named, before anything is dumped', async () => {
    const { limited } = await filled(
      'CREATE SCHEMA s; CREATE TABLE s.secret (a int); CREATE TABLE open (a int); GRANT SELECT ON open TO limited;',
    );
    await expect(dumpWhole(limited)).rejects.toMatchObject({
      code: 'database-privilege',
      message: expect.stringContaining('s.secret'),
      hint: expect.stringContaining('pg_read_all_data'),
    });
    const { entries } = await dumpWhole(limited, dumpOptions({ filters: { excludeSchemas: ['s'] } }));
    expect(entries.map(({ name }) => name)).toEqual(['schema', 'public.open']);
    const { problems } = await postgres.probe(limited, signal());
    expect(problems).toContainEqual({
      what: expect.stringContaining('s.secret'),
      todo: expect.stringContaining('pg_read_all_data'),
    });
  });

  it('never gets a dump whose rows row security has thinned out', async () => {
    const { name, reader } = await filled(
      'CREATE TABLE t AS SELECT generate_series(1, 100) n; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (n < 10);',
    );
    await expect(dumpWhole(reader, dumpOptions(), SMALLEST_PIECES)).rejects.toMatchObject({
      code: 'database-privilege',
      message: expect.stringContaining('public.t'),
      hint: expect.stringContaining('BYPASSRLS'),
    });
    expect((await postgres.probe(reader, signal())).problems).toContainEqual({
      what: expect.stringContaining('Row security'),
      todo: expect.stringContaining('BYPASSRLS'),
    });
    expect((await dumpWhole(cluster.url(name))).entries.find(({ kind }) => kind === 'rows')?.rows).toBe(100);
    expect(
      (await dumpWhole(reader, dumpOptions({ filters: { excludeTableData: ['t'] } }))).entries.map(({ kind }) => kind),
    ).toEqual(['schema']);
  });

  it('fails on large objects it may not read, and probe says so beforehand', async () => {
    const { reader } = await filled("SELECT lo_from_bytea(0, 'x')");
    await expect(dumpWhole(reader)).rejects.toMatchObject({
      code: 'database-privilege',
      message: expect.stringContaining('large object'),
    });
    expect((await postgres.probe(reader, signal())).problems).toContainEqual({
      what: expect.stringContaining('1 large objects'),
      todo: expect.stringContaining('superuser'),
    });
  });

  it('is warned that subscriptions are not in the backup', async () => {
    const { name, reader } = await filled(
      "CREATE TABLE t (a int); CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)",
    );
    const { source } = await dumpWhole(reader);
    expect(source.warnings.join('\n')).toMatch(/Subscriptions are not in the backup.*sub/);
    expect((await postgres.probe(reader, signal())).problems).toContainEqual({
      what: expect.stringContaining('subscriptions sub'),
      todo: expect.any(String),
    });
    expect((await dumpWhole(cluster.url(name))).source.warnings).toEqual([]);
    await cluster.psql(
      'ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub',
      name,
    );
  });

  it('looks at a healthy database without holding up anybody, and finds no problem as a superuser', async () => {
    const { name } = await filled(
      'CREATE TABLE t AS SELECT generate_series(1, 1000) n; ANALYZE t; CREATE TABLE p (a int) PARTITION BY LIST (a)',
    );
    const report = await postgres.probe(cluster.url(name), signal());
    expect(report).toMatchObject({ tableCount: 2, estimatedRows: 1000, problems: [] });
    expect(report.sizeBytes).toBeGreaterThan(1_000_000);
    expect(Object.keys(report.source.tools).sort()).toEqual(['pg_dump', 'pg_dumpall', 'pg_restore', 'psql']);
  });
});
