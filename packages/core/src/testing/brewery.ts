/**
 * A sample brewery of any size, for the demo, the tests and the benchmarks: sensor readings (many short rows), an event log with
 * jsonb, label images that do not compress, large objects, and the usual small tables with keys, views and indexes.
 *
 * The server makes the rows itself, from hashes of row numbers: the same seed and size give the same rows, in the same order, on
 * every server. The mix is made so that the dump's text compresses by about 3 with `zstd -1`, as databases commonly do.
 */
import pg from 'pg';
import { cancelled, throwIfAborted } from '../errors.ts';
import { BREWERY_INDEXES, BREWERY_TABLES, BREWERY_VIEWS } from './brewery-schema.ts';

export interface BreweryOptions {
  /** Size of the dump as text (`pg_dump -Fp`), in units of 1,000,000 bytes. Default 100. */
  readonly megabytes?: number;
  /** Default 1. */
  readonly seed?: number;
}

/** How the dump's bytes are spread, and the bytes that a row of each kind takes in it. */
const READINGS = { share: 0.38, bytes: 73 };
const EVENTS = { share: 0.46, bytes: 416 };
const IMAGES = { share: 0.12, bytes: 64_120 };
const DOCUMENTS = { share: 0.04, bytes: 262_144 };

const FIRST_MOMENT = '2024-01-01 00:00:00+00';

/** Fills an empty database. An abort leaves it as far as it came. */
export async function createBrewery(url: string, options: BreweryOptions, signal: AbortSignal): Promise<void> {
  const bytes = (options.megabytes ?? 100) * 1_000_000;
  const seed = options.seed ?? 1;
  const count = (kind: { readonly share: number; readonly bytes: number }): number =>
    Math.max(4, Math.round((bytes * kind.share) / kind.bytes));
  await onConnection(url, signal, async (run) => {
    await run(BREWERY_TABLES);
    await run(smallTablesSql(seed));
  });
  await Promise.all([
    onConnection(url, signal, async (run) => {
      await run(readingsSql(1, count(READINGS), seed));
      await run(BREWERY_INDEXES.readings);
    }),
    onConnection(url, signal, async (run) => {
      await run(eventsSql(1, count(EVENTS), seed));
      await run(BREWERY_INDEXES.events);
      await run(imagesSql(count(IMAGES), seed));
      await run(documentsSql(count(DOCUMENTS), seed));
      await run(BREWERY_VIEWS);
    }),
  ]);
  await onConnection(url, signal, async (run) => {
    await run(SEQUENCES);
    await run('VACUUM (FREEZE, ANALYZE)');
  });
}

/** A day's work: appended readings and events, and corrections to one stretch of time. */
export async function brewADay(url: string, signal: AbortSignal): Promise<void> {
  await appendRows(url, 0.02, signal);
  await updateRange(url, 0.01, signal);
}

/** Appends `share` (0.02: two per cent) of the rows that readings and events have, after the last ones in time. */
export async function appendRows(url: string, share: number, signal: AbortSignal): Promise<void> {
  await onConnection(url, signal, async (run) => {
    for (const [table, sql] of [
      ['readings', readingsSql],
      ['events', eventsSql],
    ] as const) {
      const [row] = await run(`SELECT count(*)::text AS rows, coalesce(max(id), 0)::text AS last FROM ${table}`);
      const last = Number(row?.['last']);
      const added = Math.max(1, Math.round(Number(row?.['rows']) * share));
      await run(sql(last + 1, last + added, 1));
    }
    await run(SEQUENCES);
  });
}

/** Updates `share` of the rows of readings and events, in one stretch of time at two thirds of the way. */
export async function updateRange(url: string, share: number, signal: AbortSignal): Promise<void> {
  await onConnection(url, signal, async (run) => {
    const range = (table: string): string =>
      `id BETWEEN (SELECT max(id) * 2 / 3 FROM ${table}) AND (SELECT max(id) * 2 / 3 + count(*) * ${share} FROM ${table})`;
    await run(`UPDATE readings SET temperature = temperature + 0.25 WHERE ${range('readings')}`);
    await run(`UPDATE events SET payload = payload || '{"reviewed": true}' WHERE ${range('events')}`);
  });
}

/** A number from 0 to `modulus` - 1 that depends on the row's number `i`, the seed and `salt`. */
function hash(seed: number, salt: number, modulus: number): string {
  return `(hashint8extended(i, ${seed * 1000 + salt}) & 9007199254740991) % ${modulus}`;
}

/** One of the words, by the row's number. */
function pick(seed: number, salt: number, words: readonly string[]): string {
  return `(ARRAY[${words.map((word) => `'${word}'`).join(',')}])[1 + ${hash(seed, salt, words.length)}]`;
}

function smallTablesSql(seed: number): string {
  const styles = [
    'Pilsner',
    'Helles',
    'Dunkel',
    'Kölsch',
    'Altbier',
    'Stout',
    'Porter',
    'India Pale Ale',
    'Saison',
    'Witbier',
  ];
  const tags = ['house', 'seasonal', 'collab', 'barrel-aged', 'sour', 'session'];
  return `
INSERT INTO styles SELECT i, (ARRAY[${styles.map((style) => `'${style}'`).join(',')}])[i], numrange(i * 4, i * 4 + 12)
  FROM generate_series(1, ${styles.length}) i;
INSERT INTO ingredients
  SELECT i, 'ingredient ' || i, (enum_range(NULL::ingredient_kind))[1 + ${hash(seed, 1, 5)}],
    CASE WHEN i % 7 <> 0 THEN (${hash(seed, 2, 9000)} + 100) / 100.0 END,
    jsonb_build_object('supplier', ${pick(seed, 3, ['Weyermann', 'Hopsteiner', 'Fermentis', 'Local farm'])}, 'lot', ${hash(seed, 4, 100000)})
  FROM generate_series(1, 200) i;
INSERT INTO recipes (id, name, style_id, original_gravity, final_gravity, tags, notes)
  SELECT i, 'Recipe № ' || i, 1 + ${hash(seed, 5, styles.length)}, 1.040 + ${hash(seed, 6, 40)} / 1000.0, 1.006 + ${hash(seed, 7, 10)} / 1000.0,
    ARRAY[${pick(seed, 8, tags)}, ${pick(seed, 9, tags)}],
    CASE WHEN i % 3 = 0 THEN E'Mash at 66 °C,\\nthen\\t"rest".' END
  FROM generate_series(1, 120) i;
INSERT INTO recipe_ingredients
  SELECT i, 1 + (i * 7 + n * 31) % 200, 10 + ${hash(seed, 10, 50000)} / 10.0, n * 10 FROM generate_series(1, 120) i, generate_series(1, 5) n;
INSERT INTO vessels SELECT i, 'FV' || lpad(i::text, 2, '0'), 500 * (1 + i % 8) FROM generate_series(1, 24) i;
INSERT INTO batches
  SELECT i, 1 + ${hash(seed, 11, 120)}, 1 + i % 24, date '2024-01-01' + i / 3,
    (enum_range(NULL::batch_status))[1 + ${hash(seed, 12, 5)}], 400 + ${hash(seed, 13, 30000)} / 10.0,
    CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'checked by ' || ${pick(seed, 14, ACTORS)} END
  FROM generate_series(1, 2000) i;
`;
}

const ACTORS = ['anna', 'björn', 'chiara', 'dmitri', 'eve', 'farid', 'grace', 'hiro', 'system', 'scheduler'];
const KINDS = [
  'valve.opened',
  'valve.closed',
  'pump.started',
  'pump.stopped',
  'setpoint.changed',
  'alarm.raised',
  'sample.taken',
];

function readingsSql(first: number, last: number, seed: number): string {
  return `
INSERT INTO readings
  SELECT i, 1 + ${hash(seed, 20, 2000)},
    timestamptz '${FIRST_MOMENT}' + i * interval '7.131 seconds' + (${hash(seed, 21, 1000)}) * interval '1 millisecond',
    (18 + 2 * sin(i / 500.0))::numeric(5,2) + (${hash(seed, 22, 40)}) / 100.0,
    1.0600 - (i % 9000) / 200000.0 + (${hash(seed, 23, 12)}) / 10000.0,
    ((${hash(seed, 24, 2200000)}) / 1000000.0)::real,
    CASE WHEN i % 5 = 0 THEN 4 + (${hash(seed, 25, 80)}) / 100.0 END,
    'sensor-' || i % 48
  FROM generate_series(${first}::bigint, ${last}::bigint) i`;
}

function eventsSql(first: number, last: number, seed: number): string {
  return `
INSERT INTO events
  SELECT i, timestamptz '${FIRST_MOMENT}' + i * interval '41.77 seconds', ${pick(seed, 30, KINDS)}, ${pick(seed, 31, ACTORS)},
    CASE WHEN i % 4 <> 0 THEN 1 + ${hash(seed, 32, 2000)} END,
    jsonb_build_object(
      'request', md5(${seed} || ':' || i)::uuid,
      'vessel', 'FV' || 1 + i % 24,
      'duration_ms', ${hash(seed, 33, 90000)},
      'source', jsonb_build_object('host', 'plc-' || ${hash(seed, 34, 12)}, 'address', '10.20.' || ${hash(seed, 35, 8)} || '.' || ${hash(seed, 36, 250)}),
      'before', (${hash(seed, 37, 4000)}) / 100.0, 'after', (${hash(seed, 38, 4000)}) / 100.0,
      'signature', replace(encode(sha512(('signed:' || ${seed} || ':' || i)::bytea), 'base64'), E'\\n', ''),
      'message', ${pick(seed, 39, ['Set by hand after tasting', 'Automatic step of the fermentation profile', 'Limit exceeded: \\"too warm\\"', 'Cleaning in place finished'])})
  FROM generate_series(${first}::bigint, ${last}::bigint) i`;
}

/** Bytes without pattern: SHA-256 of counters. */
function noise(seed: number, salt: number, blocks: string): string {
  return `(SELECT string_agg(sha256(('${seed}:${salt}:' || i || ':' || n)::bytea), NULL ORDER BY n) FROM generate_series(1, ${blocks}) n)`;
}

function imagesSql(count: number, seed: number): string {
  return `
INSERT INTO label_images
  SELECT i, 1 + (i - 1) % 120, 600, 400, '\\x89504e470d0a1a0a'::bytea || ${noise(seed, 40, `500 + (${hash(seed, 41, 1000)})::int`)}
  FROM generate_series(1, ${count}) i`;
}

/** Half noise, half text: as scanned sheets are. */
function documentsSql(count: number, seed: number): string {
  const half = DOCUMENTS.bytes / 2;
  return `
INSERT INTO batch_documents
  SELECT i, 'Brew sheet ' || i,
    lo_from_bytea((500000 + i)::oid, ${noise(seed, 50, String(half / 32))} || repeat('Brew sheet ' || i || ', page 1. ', ${half / 32})::bytea)
  FROM generate_series(1, ${count}) i`;
}

const SEQUENCES = ['styles', 'ingredients', 'recipes', 'vessels', 'batches', 'readings', 'events', 'label_images']
  .map((table) => `SELECT setval(pg_get_serial_sequence('${table}', 'id'), (SELECT max(id) FROM ${table}));`)
  .join('\n');

type Run = (sql: string) => Promise<pg.QueryResultRow[]>;

/** An abort cuts the connection; the server then ends the statement by itself within a second. */
async function onConnection(url: string, signal: AbortSignal, work: (run: Run) => Promise<void>): Promise<void> {
  throwIfAborted(signal);
  const client = new pg.Client({ connectionString: url, application_name: 'brewery' });
  // A cut connection is told by the query that it fails; this keeps it from being told twice.
  client.on('error', () => undefined);
  await client.connect();
  const cut = (): void => {
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  };
  signal.addEventListener('abort', cut, { once: true });
  try {
    // PostgreSQL 13 has no such setting.
    await client.query(
      `SELECT set_config(name, '1000', false) FROM pg_settings WHERE name = 'client_connection_check_interval'`,
    );
    await client.query(`SET synchronous_commit = off; SET maintenance_work_mem = '256MB'`);
    await work(async (sql) => {
      const result: unknown = await client.query(sql);
      return Array.isArray(result) ? [] : (result as pg.QueryResult).rows;
    });
  } catch (error) {
    throw signal.aborted ? cancelled(signal) : error;
  } finally {
    signal.removeEventListener('abort', cut);
    await client.end();
  }
}
