import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { sharedCluster, type TestDatabase, testDatabase } from '../../../test/harness/databases.ts';
import { isCellarError } from '../../errors.ts';
import { compareDatabases } from '../../testing/compare-databases.ts';
import { type Dump, type DumpOptions, type Entry, NO_FILTERS, type PartResult, type ScriptLocator } from '../engine.ts';
import { postgres } from './postgres.ts';
import { inspectScript } from './script.ts';
import { type SanitiseOptions, sanitiseScript } from './script-sanitise.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const OPTIONS: DumpOptions = {
  filters: NO_FILTERS,
  globals: false,
  jobs: 1,
  lockTimeoutMs: 5000,
  stallTimeoutMs: 60_000,
};

async function stockDump(source: TestDatabase, options: readonly string[]): Promise<Buffer> {
  const { cluster } = source;
  const { stdout } = await run(join(cluster.binaries, 'pg_dump'), [...options, source.name], {
    env: { ...cluster.environment(), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' },
    encoding: 'buffer',
    maxBuffer: 2 ** 30,
  });
  return stdout;
}

async function* pieces(bytes: Uint8Array, size = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Loads a script by stock psql alone. */
async function psql(target: TestDatabase, script: Uint8Array, options: readonly string[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-script-'));
  try {
    const file = join(folder, 'script.sql');
    await writeFile(file, script);
    await run(
      join(target.cluster.binaries, 'psql'),
      ['--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', ...options, `--file=${file}`, `--dbname=${target.name}`],
      { env: target.cluster.environment(), maxBuffer: 2 ** 28 },
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function sanitised(script: Uint8Array, options: SanitiseOptions = {}): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const piece of sanitiseScript(pieces(script), signal, options)) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

/** Whatever way rows are loaded in by psql, event triggers are there before materialized views are filled, and fire. */
function beyondEventTriggers(differences: readonly string[]): string[] {
  return differences.filter((difference) => !difference.startsWith('public.ddl_log: '));
}

function totalRows(locator: ScriptLocator): number {
  return locator.tables.reduce((sum, { rows }) => sum + rows, 0);
}

/** Of an extension's tables a dump holds the rows that the extension did not bring itself. */
function whole({ schema }: { readonly schema: string }): boolean {
  return schema !== 'extensions';
}

async function rowsInDatabase(
  database: TestDatabase,
  tables: ScriptLocator['tables'],
): Promise<ScriptLocator['tables']> {
  const counted: { schema: string; name: string; rows: number }[] = [];
  for (const { schema, name } of tables) {
    const quoted = [schema, name].map((part) => `"${part.replaceAll('"', '""')}"`).join('.');
    const kinds = await database.cluster.query<{ kind: string }>(
      'SELECT relkind AS kind FROM pg_class WHERE oid = $1::regclass',
      database.name,
      [quoted],
    );
    const only = kinds[0]?.kind === 'p' ? '' : 'ONLY';
    const [row] = await database.cluster.query<{ rows: string }>(
      `SELECT count(*) AS rows FROM ${only} ${quoted}`,
      database.name,
    );
    counted.push({ schema, name, rows: Number(row?.rows) });
  }
  return counted;
}

const STOCK: readonly (readonly string[])[] = [
  [],
  ['--clean'],
  ['--clean', '--if-exists'],
  ['--create'],
  ['--clean', '--if-exists', '--create'],
  ['--inserts'],
  ['--column-inserts', '--rows-per-insert=7'],
  ['--no-owner', '--no-privileges', '--no-comments'],
  ['--quote-all-identifiers'],
  ['--disable-dollar-quoting'],
  ['--load-via-partition-root'],
];

/** Owners; the order of inherited columns and the sign of negative zeros; the order of rows across partitions. */
const LOSING = ['--no-owner', '--inserts', '--column-inserts', '--load-via-partition-root'];

describe('scripts of stock pg_dump', () => {
  it.each(STOCK.map((options) => ({ title: options.join(' ') || 'no options', options })))(
    'with $title: counted as the database has it, and loaded by psql into a fresh database, in one transaction, they give the same',
    async ({ options }) => {
      await using source = await testDatabase('kitchen-sink');
      await using copy = await testDatabase();
      const script = await stockDump(source, options);
      const locator = await inspectScript(pieces(script), signal);
      expect(locator.tables.length).toBeGreaterThan(50);
      expect(locator.largeObjects).toBeGreaterThan(0);
      if (options.includes('--load-via-partition-root')) {
        const plain = await inspectScript(pieces(await stockDump(source, [])), signal);
        expect(totalRows(locator)).toBe(totalRows(plain));
      } else {
        expect(locator.tables.filter(whole)).toEqual(await rowsInDatabase(source, locator.tables.filter(whole)));
      }
      await psql(copy, await sanitised(script), ['--single-transaction']);
      // Some options lose something by themselves: then what stock psql makes of the script is what it must be.
      await using loadedByStock = LOSING.some((option) => options.includes(option)) ? await testDatabase() : undefined;
      if (loadedByStock !== undefined) await psql(loadedByStock, script, []);
      expect(beyondEventTriggers(await compareDatabases((loadedByStock ?? source).url, copy.url))).toEqual([]);
    },
  );

  it('load statement by statement when their transactions are kept, without owners and privileges when these are dropped', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase();
    const script = await stockDump(source, ['--create']);
    const loaded = await sanitised(script, { transactions: 'keep', owners: 'drop', privileges: 'drop' });
    await psql(copy, loaded, []);
    const owners = await copy.cluster.query<{ owner: string }>(
      `SELECT DISTINCT pg_get_userbyid(c.relowner) AS owner FROM pg_class c WHERE relnamespace = 'public'::regnamespace`,
      copy.name,
    );
    expect(owners.map(({ owner }) => owner)).toEqual(['postgres']);
  });

  it('never touch the database they came from', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase();
    const before = await source.cluster.query('SELECT * FROM pg_database WHERE datname = $1', 'postgres', [
      source.name,
    ]);
    await psql(copy, await sanitised(await stockDump(source, ['--clean', '--create'])), ['--single-transaction']);
    expect(
      await source.cluster.query('SELECT * FROM pg_database WHERE datname = $1', 'postgres', [source.name]),
    ).toEqual(before);
  });
});

function locatorOf([entry]: readonly Entry[]): ScriptLocator {
  if (entry === undefined) throw new Error('there is no entry');
  return entry.locator as unknown as ScriptLocator;
}

async function dumpScript(
  url: string,
  options: DumpOptions = OPTIONS,
): Promise<{ script: Buffer; finished: Awaited<ReturnType<Dump['finish']>> }> {
  await using dump = await postgres.openScriptDump(url, options, signal);
  const out: Buffer[] = [];
  const results: PartResult[] = [];
  for (const task of dump.tasks) {
    for await (const part of postgres.read(task, signal)) {
      for await (const piece of part.bytes) out.push(Buffer.from(piece));
      results.push(part.result());
    }
  }
  return { script: Buffer.concat(out), finished: await dump.finish(results, signal) };
}

describe('dumping as a script', () => {
  it('gives what stock pg_dump gives, with the rows of every table', async () => {
    await using source = await testDatabase('kitchen-sink');
    const { script, finished } = await dumpScript(source.url);
    const withoutKeys = (text: string) => text.replaceAll(/^\\(un)?restrict .*$/gm, '');
    expect(withoutKeys(script.toString('latin1'))).toBe(withoutKeys((await stockDump(source, [])).toString('latin1')));
    const [entry, ...others] = finished.entries;
    expect(others).toEqual([]);
    expect(entry).toMatchObject({ name: 'script', kind: 'script' });
    const locator = locatorOf(finished.entries);
    expect(locator).toEqual(await inspectScript(pieces(script), signal));
    expect(finished.source).toMatchObject({
      engine: 'postgres',
      database: source.name,
      serverVersion: locator.serverVersion,
    });
  });

  it('follows the filters', async () => {
    await using source = await testDatabase('brewery');
    const filters = { ...NO_FILTERS, excludeTableData: ['readings'], excludeTables: ['event_log*'] };
    const { finished } = await dumpScript(source.url, { ...OPTIONS, filters });
    const names = locatorOf(finished.entries).tables.map(({ name }) => name);
    expect(names).not.toContain('readings');
    expect(names.length).toBeGreaterThan(0);
    const schemaOnly = await dumpScript(source.url, { ...OPTIONS, filters: { ...NO_FILTERS, schemaOnly: true } });
    expect(schemaOnly.finished.entries[0]).toMatchObject({ rows: 0 });
  });

  it('fails with what pg_dump said when its connection is cut, and yields no end', async () => {
    await using source = await testDatabase('brewery');
    await using dump = await postgres.openScriptDump(source.url, OPTIONS, signal);
    const [task] = dump.tasks;
    if (task === undefined) throw new Error('there is no task');
    const reading = (async () => {
      for await (const part of postgres.read(task, signal)) {
        let cut = false;
        for await (const _ of part.bytes) {
          if (cut) continue;
          cut = true;
          await sharedCluster().psql(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${source.name}' AND application_name = 'pg_dump' OR datname = '${source.name}' AND query LIKE 'COPY%'`,
          );
        }
        return part.result();
      }
    })();
    await expect(reading).rejects.toSatisfy((error) => isCellarError(error, 'tool-failed'));
  });

  it('refuses to leave out silently what was asked for: roles and tablespaces', async () => {
    await using source = await testDatabase();
    const opening = postgres.openScriptDump(source.url, { ...OPTIONS, globals: true }, signal);
    await expect(opening).rejects.toSatisfy((error) => isCellarError(error, 'invalid-input'));
  });
});
