/**
 * Says what differs between two databases: the proof that a restore gave back what was backed up. It stands on the stock tools and
 * the server alone, on nothing of Cellar's, so that a fault of the engine cannot hide behind itself.
 *
 * Compared are the schema as `pg_dump --schema-only` writes it, every table's rows as a multiset (physical order is not part of a
 * backup), sequences, large objects, extensions' versions, and on demand what belongs to the database itself.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { installedServers } from './postgres-cluster.ts';

const run = promisify(execFile);

export interface CompareOptions {
  /** Also compare owner, privileges, comment, connection limit, settings, encoding and locale of the databases. Default false. */
  readonly properties?: boolean;
  /** Also compare the schemas. Default true. */
  readonly schema?: boolean;
}

/** Rows of tables that are no larger than this are listed where they differ. */
const LISTED_ROWS = 20_000;

/**
 * The same text for the same value, whatever the database's own settings are (PostgreSQL manual, COPY and pg_dump).
 * Row security off means: an error instead of silently fewer rows.
 */
const SETTINGS = `
SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; SET timezone = 'UTC'; SET bytea_output = 'hex';
SET xmloption = 'content'; SET row_security = off; SET search_path = ''; SET lc_monetary = 'C'; SET statement_timeout = 0;`;

/** @returns one sentence per difference, each beginning with the object's name; none when the databases are equal. */
export async function compareDatabases(a: string, b: string, options: CompareOptions = {}): Promise<string[]> {
  const [left, right] = [await connect(a), await connect(b)];
  try {
    const differences: string[] = [];
    if (options.schema ?? true) {
      const [schemaA, schemaB] = await Promise.all([schemaOf(a, left), schemaOf(b, right)]);
      differences.push(...compareLines('schema', schemaA, schemaB));
    }
    differences.push(...(await compareRows(left, right)));
    for (const [title, sql] of Object.entries(FACTS)) {
      differences.push(...compareFacts(title, await facts(left, sql), await facts(right, sql)));
    }
    differences.push(...compareFacts('sequence', await sequences(left), await sequences(right)));
    if (options.properties) {
      differences.push(...compareFacts('database', await facts(left, PROPERTIES), await facts(right, PROPERTIES)));
    }
    return differences;
  } finally {
    await Promise.all([left.end(), right.end()]);
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(SETTINGS);
  return client;
}

/** The schema text by the pg_dump that fits the server. */
async function schemaOf(url: string, client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(`SELECT current_setting('server_version_num') AS version`);
  const major = Math.floor(Number(rows[0]?.version) / 10_000);
  const tools = (await installedServers()).filter((server) => server.major >= major).at(-1);
  const address = new URL(url);
  const password = decodeURIComponent(address.password);
  address.password = '';
  const { stdout } = await run(
    tools === undefined ? 'pg_dump' : join(tools.folder, 'pg_dump'),
    ['--schema-only', `--dbname=${address.href}`],
    // Defaults of type timestamptz are written in the session's time zone.
    { env: { ...process.env, PGPASSWORD: password, PGTZ: 'UTC' }, maxBuffer: 256 * 1024 * 1024 },
  );
  // The only text that differs between two dumps of one database: a random word that psql locks itself with (since 15.14).
  const text = stdout.replaceAll(/^\\(un)?restrict \S+$/gm, '');
  // The tools of before then order what has one name, as all views' rules have, by oid: there the statements are compared in any order.
  return major >= 15 ? text : text.split('\n\n\n--\n').sort().join('\n\n\n--\n');
}

/** Names the first lines that one side has and the other has not; moved lines too. */
function compareLines(title: string, a: string, b: string): string[] {
  if (a === b) return [];
  const [left, right] = [a.split('\n'), b.split('\n')];
  const missing = without(left, right).map((line) => `${title}: only in the first: ${line}`);
  const added = without(right, left).map((line) => `${title}: only in the second: ${line}`);
  if (missing.length + added.length > 0) return [...missing.slice(0, 20), ...added.slice(0, 20)];
  const at = left.findIndex((line, index) => line !== right[index]);
  return [`${title}: the same lines in another order, from line ${at + 1}: ${left[at]} / ${right[at]}`];
}

/** Lines of `a` beyond those that `b` has as often. */
function without(a: readonly string[], b: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of b) counts.set(line, (counts.get(line) ?? 0) + 1);
  return a.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  });
}

interface Relation {
  readonly name: string;
  /** The rows' FROM clause, and their columns in the order of names: inheritance may change the physical order. */
  readonly from: string;
  readonly columns: string;
}

/**
 * What has rows of its own. A partition tree is compared at its root, because rows of hash partitions on enums land in other
 * partitions after a restore; only where a foreign table is among the partitions, partition by partition.
 */
const RELATIONS = `
SELECT format('%I.%I', n.nspname, c.relname) AS name,
  format(CASE WHEN c.relkind = 'p' THEN '%I.%I' ELSE 'ONLY %I.%I' END, n.nspname, c.relname) AS from,
  coalesce((SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname COLLATE "C") FROM pg_catalog.pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), '') AS columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (
  c.relkind = 'r' AND NOT c.relispartition
  OR c.relkind = 'm' AND c.relispopulated
  OR c.relkind IN ('r', 'p') AND CASE
    WHEN EXISTS (SELECT FROM pg_catalog.pg_partition_tree(pg_catalog.pg_partition_root(c.oid)) t
      JOIN pg_catalog.pg_class leaf ON leaf.oid = t.relid WHERE leaf.relkind = 'f') THEN c.relkind = 'r'
    ELSE c.relkind = 'p' AND NOT c.relispartition END)
ORDER BY 1`;

async function compareRows(left: pg.Client, right: pg.Client): Promise<string[]> {
  const [a, b] = [await relations(left), await relations(right)];
  const differences = compareFacts(
    'table',
    new Map([...a.keys()].map((name) => [name, ''])),
    new Map([...b.keys()].map((name) => [name, ''])),
  );
  for (const [name, relation] of a) {
    const other = b.get(name);
    if (other === undefined) continue;
    const [mine, theirs] = await Promise.all([digest(left, relation), digest(right, other)]);
    if (mine.rows !== theirs.rows)
      differences.push(`${name}: ${mine.rows} rows in the first, ${theirs.rows} in the second`);
    else if (mine.digest !== theirs.digest) differences.push(`${name}: the rows differ`);
    else continue;
    if (Math.max(mine.rows, theirs.rows) > LISTED_ROWS) continue;
    const [rows, otherRows] = [await rowTexts(left, relation), await rowTexts(right, other)];
    differences.push(
      ...without(rows, otherRows)
        .slice(0, 3)
        .map((row) => `${name}: only in the first: ${row}`),
    );
    differences.push(
      ...without(otherRows, rows)
        .slice(0, 3)
        .map((row) => `${name}: only in the second: ${row}`),
    );
  }
  return differences;
}

async function relations(client: pg.Client): Promise<Map<string, Relation>> {
  const { rows } = await client.query<Relation>(RELATIONS);
  return new Map(rows.map((row) => [row.name, row]));
}

/** Rows, and the sum of their hashes: independent of order, and of nothing else. */
async function digest(client: pg.Client, { from, columns }: Relation): Promise<{ rows: number; digest: string }> {
  if (columns === '') {
    const { rows } = await client.query<{ rows: string }>(`SELECT count(*)::text AS rows FROM ${from}`);
    return { rows: Number(rows[0]?.rows), digest: '' };
  }
  const half = (start: number): string => `sum(('x' || substr(h, ${start}, 16))::bit(64)::bigint)::text`;
  const { rows } = await client.query<{ rows: string; digest: string }>(
    `SELECT count(*)::text AS rows, concat(${half(1)}, ':', ${half(17)}) AS digest
     FROM (SELECT md5(ROW(${columns})::text) AS h FROM ${from}) hashes`,
  );
  return { rows: Number(rows[0]?.rows), digest: rows[0]?.digest ?? '' };
}

async function rowTexts(client: pg.Client, { from, columns }: Relation): Promise<string[]> {
  if (columns === '') return [];
  const { rows } = await client.query<{ row: string }>(
    `SELECT left(r, 300) || ' #' || md5(r) AS row FROM (SELECT ROW(${columns})::text AS r FROM ${from}) texts`,
  );
  return rows.map(({ row }) => row);
}

/** Queries that give `name` and `value`. */
const FACTS: Readonly<Record<string, string>> = {
  'large object': `
SELECT m.oid::text AS name, concat_ws(' ', 'md5', md5(lo_get(m.oid)), 'size', length(lo_get(m.oid)), 'owner', pg_get_userbyid(m.lomowner),
  'privileges', (SELECT string_agg(acl::text, ',' ORDER BY acl::text COLLATE "C") FROM unnest(m.lomacl) acl),
  'comment', obj_description(m.oid, 'pg_largeobject')) AS value
FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid`,
  extension: `
SELECT e.extname AS name, concat_ws(' ', e.extversion, n.nspname) AS value
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1`,
  'materialized view': `
SELECT c.oid::regclass::text AS name, CASE WHEN c.relispopulated THEN 'filled' ELSE 'not filled' END AS value
FROM pg_catalog.pg_class c WHERE c.relkind = 'm' ORDER BY 1`,
};

const PROPERTIES = `
WITH d AS (SELECT * FROM pg_catalog.pg_database WHERE datname = current_database())
SELECT 'owner' AS name, pg_get_userbyid(datdba)::text AS value FROM d
UNION ALL SELECT 'encoding', pg_encoding_to_char(encoding)::text FROM d
UNION ALL SELECT 'collate', datcollate FROM d
UNION ALL SELECT 'ctype', datctype FROM d
UNION ALL SELECT 'connection limit', datconnlimit::text FROM d
UNION ALL SELECT 'allows connections', datallowconn::text FROM d
UNION ALL SELECT 'template', datistemplate::text FROM d
UNION ALL SELECT 'privileges', (SELECT string_agg(acl::text, ',' ORDER BY acl::text COLLATE "C") FROM unnest(datacl) acl) FROM d
UNION ALL SELECT 'comment', shobj_description(oid, 'pg_database') FROM d
UNION ALL SELECT 'settings of ' || coalesce(r.rolname::text, 'all'), (SELECT string_agg(setting, '; ' ORDER BY setting COLLATE "C") FROM unnest(s.setconfig) setting)
  FROM pg_catalog.pg_db_role_setting s JOIN d ON d.oid = s.setdatabase LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
ORDER BY 1`;

async function facts(client: pg.Client, sql: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ name: string; value: string | null }>(sql);
  return new Map(rows.map(({ name, value }) => [name, value ?? '(none)']));
}

/** Read one by one: the view pg_sequences does not tell whether a value was taken yet. */
async function sequences(client: pg.Client): Promise<Map<string, string>> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' ORDER BY 1`,
  );
  const found = new Map<string, string>();
  for (const { name } of rows) {
    const { rows: state } = await client.query<{ value: string }>(
      `SELECT concat_ws(' ', last_value, CASE WHEN is_called THEN 'taken' ELSE 'not taken' END) AS value FROM ${name}`,
    );
    found.set(name, state[0]?.value ?? '');
  }
  return found;
}

function compareFacts(title: string, a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] {
  const differences: string[] = [];
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [left, right] = [a.get(name), b.get(name)];
    if (left === right) continue;
    if (right === undefined) differences.push(`${title} ${name}: only in the first`);
    else if (left === undefined) differences.push(`${title} ${name}: only in the second`);
    else differences.push(`${title} ${name}: ${left} in the first, ${right} in the second`);
  }
  return differences;
}
