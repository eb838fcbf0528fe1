/** The parts of a restore that decide on text alone. */
import { describe, expect, it } from 'vitest';
import { checkDatabaseName, markComment, parseMark, previousName, scratchName } from './database-names.ts';
import { databasePropertiesSql, splitNameList } from './database-properties.ts';
import { missingOnly, splitStatements } from './globals-in.ts';
import { parseAclItem } from './source-properties.ts';
import { copyWith, parseCopyTarget } from './stored-archive.ts';
import { rolesOfGrants } from './target-checks.ts';

describe('the table of a COPY statement', () => {
  it.each([
    ['COPY public.orders (id, "from") FROM stdin;\n', 'public.orders', 'public', 'orders'],
    ['COPY "Odd schema"."a.b ""c"" (d" (id) FROM stdin;\n', '"Odd schema"."a.b ""c"" (d"', 'Odd schema', 'a.b "c" (d'],
    ['COPY public.empty  FROM stdin;\n', 'public.empty', 'public', 'empty'],
  ])('is read from %j', (statement, written, schema, name) => {
    const target = parseCopyTarget(Buffer.from(statement));
    expect([target?.written, target?.schema, target?.name].map(String)).toEqual([written, schema, name]);
  });

  it.each([
    'SELECT 1;\n',
    'COPY public.orders TO stdout;\n',
    'COPY orders (id) FROM stdin;\n',
    'COPY public."orders (id) FROM stdin;\n',
  ])('is not read from %j', (statement) => {
    expect(parseCopyTarget(Buffer.from(statement))).toBeUndefined();
  });

  it('takes options at the end', () => {
    const statement = Buffer.from('COPY a."FROM stdin;" (b) FROM stdin;\n');
    expect(String(copyWith(statement, 'WITH (FREEZE)'))).toBe('COPY a."FROM stdin;" (b) FROM stdin WITH (FREEZE);\n');
  });
});

describe('names of databases', () => {
  it('fit 63 bytes without cutting a character, and keep the time or id that makes them unique', () => {
    const now = new Date('2024-11-08T13:12:00.999Z');
    for (const name of ['shop', 'x'.repeat(63), 'ж'.repeat(31), '🍺'.repeat(15)]) {
      for (const made of [
        scratchName(name, '0smmvc0abcdefg'),
        previousName(name, now, 1),
        previousName(name, now, 12),
      ]) {
        expect(Buffer.byteLength(made)).toBeLessThanOrEqual(63);
        expect(made).not.toMatch(/\uFFFD/);
      }
    }
    expect(previousName('shop', now, 1)).toBe('shop_before_20241108_131200');
    expect(previousName('shop', now, 2)).toBe('shop_before_20241108_131200_2');
  });

  it('that the server would cut are refused', () => {
    expect(() => checkDatabaseName('x'.repeat(64))).toThrow(/cannot be the name/);
    expect(() => checkDatabaseName('x'.repeat(63))).not.toThrow();
  });

  it('of scratch databases are believed by their mark alone, and only by a whole one', () => {
    const mark = { target: `it's "mine"`, state: 'swapping' } as const;
    expect(parseMark(markComment(mark))).toEqual(mark);
    for (const comment of [
      '',
      'a comment',
      markComment(mark).slice(0, -1),
      'Cellar is restoring into this database. {}',
    ]) {
      expect(parseMark(comment)).toBeUndefined();
    }
  });
});

describe('properties of a database', () => {
  it('are read from privileges in their text form', () => {
    expect(parseAclItem('=Tc/owner')).toEqual([
      { grantee: '', privilege: 'TEMPORARY', grantable: false },
      { grantee: '', privilege: 'CONNECT', grantable: false },
    ]);
    expect(parseAclItem('"odd ""one"", a=b"=C*/owner')).toEqual([
      { grantee: 'odd "one", a=b', privilege: 'CREATE', grantable: true },
    ]);
  });

  it('keep lists of names as lists, and everything else as one text', () => {
    expect(splitNameList('"$user", public, "a, ""b"""')).toEqual(['$user', 'public', 'a, "b"']);
    const sql = databasePropertiesSql(
      'd',
      {
        owner: 'o',
        grants: undefined,
        comment: undefined,
        connectionLimit: -1,
        isTemplate: false,
        tablespace: 'pg_default',
        settings: [
          { role: undefined, name: 'search_path', value: '"$user", public' },
          { role: 'r', name: 'my.motto', value: `a, b 'c'` },
        ],
      },
      { owners: 'keep', privileges: 'keep' },
    );
    expect(sql).toContain(`ALTER DATABASE "d" SET "search_path" TO '$user', 'public'`);
    expect(sql).toContain(`ALTER ROLE "r" IN DATABASE "d" SET "my"."motto" TO 'a, b ''c'''`);
  });
});

describe('roles and tablespaces', () => {
  it('are found in grants of every kind, and not in names of objects', () => {
    expect(
      rolesOfGrants(
        `GRANT SELECT("to",b) ON TABLE public."TO" TO a, "B, c" WITH GRANT OPTION; REVOKE ALL ON SCHEMA x FROM PUBLIC;
         SET SESSION AUTHORIZATION d; GRANT ALL ON SEQUENCE s TO e; RESET SESSION AUTHORIZATION;
         ALTER DEFAULT PRIVILEGES FOR ROLE f IN SCHEMA y REVOKE ALL ON TABLES FROM f;`,
      ),
    ).toEqual(['a', 'B, c', 'd', 'e', 'f', 'f']);
  });

  it('are taken from the globals only where they are missing, with all that was said of them', () => {
    const script = `-- Roles; with 'odd' comment\n\\restrict x\nSET default_transaction_read_only = off;
CREATE ROLE here;\nALTER ROLE here WITH SUPERUSER PASSWORD 'x';\nCREATE ROLE "new; one";
ALTER ROLE "new; one" WITH LOGIN PASSWORD 'SCRAM;''y';\nCOMMENT ON ROLE "new; one" IS E'it\\'s; new';
GRANT here TO "new; one" GRANTED BY here;\nGRANT here TO other;\nALTER ROLE "new; one" IN DATABASE gone SET work_mem TO '1MB';
CREATE TABLESPACE fast OWNER here LOCATION '/fast';\nGRANT CREATE ON TABLESPACE fast TO here;\nCREATE TABLESPACE slow OWNER here LOCATION '/slow';`;
    const { run, created } = missingOnly(splitStatements(script), new Set(['here', 'other']), new Set(['slow']));
    expect(run).toEqual([
      'CREATE ROLE "new; one"',
      `ALTER ROLE "new; one" WITH LOGIN PASSWORD 'SCRAM;''y'`,
      `COMMENT ON ROLE "new; one" IS E'it\\'s; new'`,
      'GRANT here TO "new; one" GRANTED BY here',
      `CREATE TABLESPACE fast OWNER here LOCATION '/fast'`,
      'GRANT CREATE ON TABLESPACE fast TO here',
    ]);
    expect(created).toEqual(['the role new; one', 'the tablespace fast']);
  });
});
