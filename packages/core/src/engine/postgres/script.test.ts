import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCellarError } from '../../errors.ts';
import type { ScriptLocator } from '../engine.ts';
import { inspectScript } from './script.ts';
import { type SanitiseOptions, sanitiseScript } from './script-sanitise.ts';

const signal = new AbortController().signal;
const END = '--\n-- PostgreSQL database dump complete\n--\n\n';
const HEAD =
  '--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n-- Dumped by pg_dump version 16.2\n\n';

function script(...statements: string[]): Buffer {
  return Buffer.from(`${HEAD}SET client_encoding = 'UTF8';\n${statements.join('\n')}\n\n${END}`);
}

/** The pieces in fresh buffers that are wiped when the next one is asked for, as a caller may do. */
async function* pieces(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (let index = 0; at < bytes.length; index++) {
    const size = sizes[index % sizes.length] ?? 1;
    const piece = Uint8Array.from(bytes.subarray(at, at + size));
    at += size;
    yield piece;
    piece.fill(0);
  }
}

function inspect(bytes: Uint8Array, sizes: readonly number[] = [bytes.length + 1]): Promise<ScriptLocator> {
  return inspectScript(pieces(bytes, sizes), signal);
}

async function sanitise(bytes: Uint8Array, options: SanitiseOptions = {}, sizes = [bytes.length + 1]): Promise<string> {
  const out: Buffer[] = [];
  for await (const piece of sanitiseScript(pieces(bytes, sizes), signal, options)) out.push(Buffer.from(piece));
  return Buffer.concat(out).toString();
}

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (isCellarError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error('it went well');
}

/** Everything that a lexer may stumble over. */
const ODD = script(
  `SELECT pg_catalog.set_config('search_path', '', false);`,
  `CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $_$ SELECT 'it''s; -- no comment' || $q$ COPY x FROM stdin; $q$ $_$;`,
  String.raw`CREATE FUNCTION public.g() RETURNS text LANGUAGE plpgsql AS E'BEGIN RETURN ''a\';b''; END';`,
  'CREATE FUNCTION public.h(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN (a > 0) THEN 1 ELSE 2 END; SELECT 3; END;',
  'CREATE RULE r AS ON INSERT TO public.t DO ALSO (INSERT INTO public.log VALUES (1); DELETE FROM public.u;);',
  `COMMENT ON TABLE public.t IS 'semicolon; /* no comment $$ "';`,
  '/* a /* nested; */ comment with COPY public.x FROM stdin; */',
  'COPY public.t (id, "select", "a b") FROM stdin;\n1\t\\N\ta\\\\.\n2\t\\.x\t\n\\\\.\t\t\n\\.\n',
  'COPY "Sales ""Dept."""."ta;ble\nwith. (everything) FROM stdin;" ("x)y") FROM stdin;\na\nb\n\\.\n',
  'COPY public.nothing  FROM stdin;\n\n\n\\.\n',
  'COPY public.empty (id) FROM stdin;\n\\.\n',
  `INSERT INTO public.i VALUES (1, 'a(b);', NULL);\nINSERT INTO public.i (id, t) VALUES (2, E'x\\'(('), (3, '(');`,
  'INSERT INTO public.i (id) OVERRIDING SYSTEM VALUE VALUES (4);\nINSERT INTO public.d DEFAULT VALUES;',
  `BEGIN;\nSELECT pg_catalog.lo_create('16395');\nSELECT pg_catalog.lo_open('16395', 131072);\nSELECT pg_catalog.lowrite(0, '\\x00');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;`,
  `SELECT 'a' - -1, 2*-3, 4 / 5, a$b$c FROM x; SELECT $1, E'\\\\', 'x'--comment with ' quote\n;`,
  `SELECT E'one\\''\n  'two\\''\n;`,
);

const ODD_TABLES = [
  { schema: 'public', name: 't', rows: 3 },
  { schema: 'Sales "Dept."', name: 'ta;ble\nwith. (everything) FROM stdin;', rows: 2 },
  { schema: 'public', name: 'nothing', rows: 2 },
  { schema: 'public', name: 'empty', rows: 0 },
  { schema: 'public', name: 'i', rows: 4 },
  { schema: 'public', name: 'd', rows: 1 },
];

describe('inspecting a script', () => {
  it('counts rows and large objects, whatever the names, quotes, bodies and comments hold', async () => {
    expect(await inspect(ODD)).toEqual({
      tables: ODD_TABLES,
      largeObjects: 1,
      serverVersion: '15.18',
      toolVersion: '16.2',
      encoding: 'UTF8',
      complete: true,
    });
  });

  it('finds the same however the bytes are cut into pieces', async () => {
    expect((await inspect(ODD, [1])).tables).toEqual(ODD_TABLES);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }), async (sizes) => {
        expect((await inspect(ODD, sizes)).tables).toEqual(ODD_TABLES);
      }),
    );
  });

  it('counts the lines of any rows, in any pieces', async () => {
    const cell = fc.constantFrom('', '.', '\\\\', '\\\\.', '\\N', 'a', '\r', '\\.x', ' ', 'ü', ';', "'");
    const line = fc.array(cell, { maxLength: 4 }).map((cells) => cells.join(''));
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          line.filter((text) => text !== '\\.' && text !== '\\.\r'),
          { maxLength: 12 },
        ),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
        async (lines, sizes) => {
          const bytes = script(
            `COPY public.t (a) FROM stdin;\n${lines.map((text) => `${text}\n`).join('')}\\.\n`,
            'SELECT 1;',
          );
          expect((await inspect(bytes, sizes)).tables).toEqual([{ schema: 'public', name: 't', rows: lines.length }]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('calls every cut of a script damaged, up to its closing lines', async () => {
    const whole = ODD.length - 1;
    for (let length = 0; length < whole; length++) {
      expect(await failure(inspect(ODD.subarray(0, length)))).toMatch(/^damaged: /);
    }
    expect((await inspect(ODD.subarray(0, whole))).complete).toBe(true);
  });

  it('names the table whose rows are cut', async () => {
    const cut = ODD.subarray(0, ODD.indexOf('2\t\\.x') + 3);
    expect(await failure(inspect(cut))).toContain('inside of the rows of public.t');
  });

  it('misses the \\unrestrict of newer versions when it is cut off', async () => {
    const restricted = Buffer.from(`${HEAD}\\restrict abc\nSELECT 1;\n\n${END}\\unrestrict abc\n\n`);
    expect((await inspect(restricted)).complete).toBe(true);
    expect(await failure(inspect(restricted.subarray(0, -3)))).toMatch(/^damaged/);
    expect(
      await failure(inspect(Buffer.from(restricted.toString().replace('unrestrict abc', 'unrestrict x')))),
    ).toMatch(/^damaged/);
  });

  it('does not take closing lines that something follows for the end', async () => {
    expect(await failure(inspect(Buffer.concat([script('SELECT 1;'), Buffer.from('SELECT 2;\n')])))).toMatch(
      /^damaged/,
    );
  });

  it('reads line ends of Windows', async () => {
    const bytes = Buffer.from(script('COPY public.t (a) FROM stdin;\n1\n2\n\\.\n').toString().replaceAll('\n', '\r\n'));
    for (const size of [1, 7, 10_000]) {
      expect((await inspect(bytes, [size])).tables).toEqual([{ schema: 'public', name: 't', rows: 2 }]);
    }
  });

  it('follows the search path of old versions, and strings with backslashes where standard strings are off', async () => {
    const bytes = script(
      'SET search_path = sales, pg_catalog;',
      'COPY orders (id) WITH OIDS FROM stdin;\n1\n\\.\n',
      'SET standard_conforming_strings = off;',
      `INSERT INTO orders VALUES ('it\\'s; (');`,
      `INSERT INTO other VALUES ('x');`,
    );
    expect((await inspect(bytes)).tables).toEqual([
      { schema: 'sales', name: 'orders', rows: 2 },
      { schema: 'sales', name: 'other', rows: 1 },
    ]);
  });

  it('reads names in the encoding of the script', async () => {
    const bytes = Buffer.from(
      `${HEAD}SET client_encoding = 'LATIN1';\nCOPY public."bi\u00e8re" (a) FROM stdin;\n\\.\n\n${END}`,
      'latin1',
    );
    expect(await inspect(bytes)).toMatchObject({ encoding: 'LATIN1', tables: [{ name: 'bière' }] });
  });

  it('refuses what it could not read for certain', async () => {
    const shiftJis = script("SET client_encoding = 'SJIS';");
    expect(await failure(inspect(shiftJis))).toMatch(/^unsupported-format: .*SJIS/);
    expect(await failure(inspect(script('COPY t FROM stdin WITH (FORMAT csv);\n"a\n"\n\\.\n')))).toMatch(
      /^unsupported-format/,
    );
    const cluster = Buffer.from('--\n-- PostgreSQL database cluster dump\n--\n');
    expect(await failure(inspect(cluster))).toMatch(/^unsupported-format: .*pg_dumpall/);
  });

  it('leaves out tables whose rows only the server can count', async () => {
    const bytes = script('INSERT INTO public.a VALUES (1);', 'INSERT INTO public.b SELECT * FROM (VALUES (1), (2)) x;');
    expect((await inspect(bytes)).tables).toEqual([{ schema: 'public', name: 'a', rows: 1 }]);
  });
});

describe('sanitising a script', () => {
  it('keeps every byte of a script that holds nothing to take out', async () => {
    const bytes = Buffer.from(ODD.toString().replace('BEGIN;\n', '').replace('COMMIT;', ''));
    for (const sizes of [[1], [7, 3, 11], [100_000]]) expect(await sanitise(bytes, {}, sizes)).toBe(bytes.toString());
  });

  it('takes out transactions unless they are to be kept', async () => {
    expect(await sanitise(ODD)).toBe(ODD.toString().replace('BEGIN;\n', '\n').replace('COMMIT;', ''));
    expect(await sanitise(ODD, { transactions: 'keep' })).toBe(ODD.toString());
  });

  it('takes out what touches a database, wherever it came from', async () => {
    const bytes = script(
      'DROP DATABASE shop;',
      '--\n-- Name: shop; Type: DATABASE\n--',
      "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8';",
      'ALTER DATABASE shop OWNER TO boss;',
      '\\connect shop',
      "ALTER DATABASE shop SET search_path TO 'x';",
      'ALTER ROLE boss IN DATABASE shop SET work_mem = 1;',
      "COMMENT ON DATABASE shop IS 'live';",
      'REVOKE CONNECT,TEMPORARY ON DATABASE shop FROM PUBLIC;',
      'GRANT CONNECT ON DATABASE shop TO bob;',
      'GRANT SELECT ON TABLE public.t TO bob;',
      "COMMENT ON TABLE public.t IS 'ON DATABASE x';",
    );
    const kept = await sanitise(bytes);
    expect(kept).not.toMatch(/shop;$|DATABASE shop|connect|boss|'live'/m);
    expect(kept).toContain('GRANT SELECT ON TABLE public.t TO bob;');
    expect(kept).toContain("COMMENT ON TABLE public.t IS 'ON DATABASE x';");
  });

  it('takes out the DROPs of --clean, and no later ones', async () => {
    const bytes = script(
      'ALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey;',
      'ALTER TABLE IF EXISTS public.t ALTER COLUMN id DROP DEFAULT;',
      'DROP INDEX IF EXISTS public.i;',
      'CREATE OR REPLACE VIEW public.v AS\nSELECT NULL::integer AS a;',
      'DROP SCHEMA IF EXISTS public;',
      '--\n-- Name: public; Type: SCHEMA\n--',
      'CREATE SCHEMA public;',
      'CREATE SCHEMA other;',
      'CREATE OR REPLACE VIEW public.v AS\nSELECT 1 AS a;',
      'DROP TABLE later;',
    );
    const kept = await sanitise(bytes);
    expect(kept).not.toMatch(/DROP (?!TABLE later)|NULL::integer|SCHEMA public;/);
    expect(kept).toContain('CREATE SCHEMA other;');
    expect(kept).toContain('SELECT 1 AS a;');
    expect(kept).toContain('DROP TABLE later;');
  });

  it('takes out owners and privileges on demand', async () => {
    const bytes = script(
      'ALTER FUNCTION public.f(a integer) OWNER TO boss;',
      'GRANT ALL ON SCHEMA public TO boss;',
      'ALTER DEFAULT PRIVILEGES FOR ROLE boss GRANT SELECT ON TABLES TO bob;',
      'ALTER TABLE public.t OWNER TO boss;',
      'ALTER TABLE ONLY public.t ADD CONSTRAINT owner CHECK (true);',
    );
    expect(await sanitise(bytes)).toBe(bytes.toString());
    const without = await sanitise(bytes, { owners: 'drop', privileges: 'drop' });
    expect(without).not.toMatch(/boss/);
    expect(without).toContain('ADD CONSTRAINT owner');
    expect(await sanitise(bytes, { owners: 'drop' })).toMatch(/GRANT ALL[\s\S]*DEFAULT PRIVILEGES/);
  });

  it.each([
    ['a program', '\\! touch /tmp/x'],
    ['a file', '\\i /etc/passwd'],
    ['a relative file', '\\ir x'],
    ['output to a program', '\\o |sh'],
    ['a copy by psql', "\\copy t from program 'id'"],
    ['a setting of psql', '\\set x `id`'],
    ['a second database', '\\connect a\nSELECT 1;\n\\connect b'],
    ['a command behind a statement', 'SELECT 1 \\g /tmp/x\n'],
    ['a command that a comment of an injected name ends', '-- Name: x\n\\! id\n; Type: TABLE'],
    ['a command behind an escaped string', "SELECT E'\\''; \\! id'; \\! id"],
    ['a program of the server', "COPY t FROM PROGRAM 'id';"],
    ['a file of the server', "COPY t (a) FROM '/etc/passwd' WITH (FORMAT csv);"],
    ['a program that is given rows', "COPY (SELECT 1) TO PROGRAM 'sh';"],
    ['a rollback', 'ROLLBACK;'],
    ['a prepared transaction', "PREPARE TRANSACTION 'x';"],
  ])('refuses a script with %s, before it is passed on', async (_, line) => {
    const bytes = script('CREATE TABLE t (a int);', line);
    for (const sizes of [[100_000], [1]]) {
      const passed: Buffer[] = [];
      const reading = (async () => {
        for await (const piece of sanitiseScript(pieces(bytes, sizes), signal)) passed.push(Buffer.from(piece));
      })();
      expect(await failure(reading)).toMatch(/^unsupported-format: The script holds /);
      expect(Buffer.concat(passed).toString()).not.toMatch(/\\[^']/);
    }
  });

  it('fails at the end of a cut script', async () => {
    expect(await failure(sanitise(ODD.subarray(0, -30)))).toMatch(/^damaged/);
  });

  it('passes a statement of any length on without holding it', async () => {
    let largest = 0;
    const long = 'x'.repeat(100_000);
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(`${HEAD}INSERT INTO t VALUES ('`);
      for (let index = 0; index < 50; index++) yield Buffer.from(long);
      yield Buffer.from(`');\n${END}`);
    }
    let total = 0;
    for await (const piece of sanitiseScript(endless(), signal)) {
      largest = Math.max(largest, piece.length);
      total += piece.length;
    }
    expect(total).toBe(HEAD.length + 23 + 50 * long.length + 4 + END.length);
    expect(largest).toBeLessThanOrEqual(2 * long.length);
  });
});
