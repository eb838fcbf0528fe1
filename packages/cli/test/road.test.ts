import { execFile } from 'node:child_process';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type TestDatabase, testDatabase } from '../../core/test/harness/databases.ts';
import {
  bytesThroughSlowPipe,
  cellar,
  cellarJson,
  type Environment,
  startCellar,
  temporaryFolder,
  waitForOutput,
} from './cellar.ts';

const run = promisify(execFile);

interface Backup {
  readonly id: string;
  readonly name: string;
  readonly created_at: string;
  readonly row_count: number;
  readonly raw_bytes: number;
  readonly new_raw_bytes: number;
  readonly new_stored_bytes: number;
  readonly parent: string | null;
  readonly duration_seconds: number;
}

/** A repository and a database, with the environment that names both. */
async function setUp(folder: string, database: TestDatabase, ...init: string[]): Promise<Environment> {
  const environment = {
    CELLAR_REPO: join(folder, 'repository'),
    CELLAR_PASSPHRASE: 'correct horse battery staple',
    DATABASE_URL: database.url,
  };
  expect(await cellar(['init', ...init], environment)).toMatchObject({ code: 0 });
  return environment;
}

async function countRows({ cluster, name }: TestDatabase, table: string): Promise<number> {
  const [row] = await cluster.query<{ count: string }>(`SELECT count(*) FROM ${table}`, name);
  return Number(row?.count);
}

describe('the road through a repository', () => {
  test('a backup, an incremental one, a mishap, and a restore that brings everything back and keeps what was there', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database, '--encrypt');
    const events = await countRows(database, 'events');

    const first = await cellarJson<Backup>(['backup', '--description', 'the first', '--tag', 'nightly'], environment);
    expect(first).toMatchObject({ name: database.name, description: 'the first', tags: ['nightly'], parent: null });
    expect(first.new_raw_bytes).toBe(first.raw_bytes);
    expect(new Date(first.created_at).toISOString()).toBe(first.created_at);

    const second = await cellarJson<Backup>(['backup', '--jobs', '1'], environment);
    expect(second.parent).toBe(first.id);
    expect(second.row_count).toBe(first.row_count);
    expect(second.new_stored_bytes).toBeLessThan(first.new_stored_bytes * 0.02);

    const listed = await cellarJson<readonly Backup[]>(['list'], environment);
    expect(listed.map(({ id }) => id)).toEqual([second.id, first.id]);
    expect((await cellar(['list', '--quiet', '--name', 'another'], environment)).stdout).toBe('');

    const shown = await cellarJson<{ entries: { name: string; rows: number }[] }>(['show', first.id], environment);
    expect(shown.entries).toContainEqual(
      expect.objectContaining({ name: 'public.events', kind: 'rows', rows: events }),
    );

    await database.cluster.query('DROP TABLE events CASCADE', database.name);
    const restored = await cellarJson<{ previous: { database: string; remove: string[] }; tables: object[] }>(
      ['restore', `${database.name}@latest`, '--to', 'env:DATABASE_URL', '--prove', '--yes'],
      environment,
    );
    expect(await countRows(database, 'events')).toBe(events);
    expect(restored.tables).toContainEqual({
      schema: 'public',
      name: 'events',
      expected_rows: events,
      restored_rows: events,
      row_digest: expect.any(String),
    });
    const kept = restored.previous.database;
    expect(await database.cluster.psql("SELECT to_regclass('events') IS NULL", kept)).toBe('t\n');
    await database.cluster.psql(restored.previous.remove.join(';\n'));
  });

  test("a password may be left to libpq's password file", async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = { ...(await setUp(folder.path, database)), DATABASE_URL: undefined };
    const url = new URL(database.url);
    const file = join(folder.path, 'pgpass');
    await writeFile(file, `${url.hostname}:${url.port}:*:postgres:${url.password}\n`, { mode: 0o600 });
    url.password = '';
    const backup = ['backup', url.href, '--quiet', '--jobs', '2'];
    const refused = await cellar(backup, environment);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/password/i) });
    const taken = await cellar(backup, { ...environment, PGPASSFILE: file });
    expect(taken).toMatchObject({ code: 0, stderr: '' });
    const password = decodeURIComponent(new URL(database.url).password);
    const byVariable = await cellar(backup, { ...environment, PGPASSWORD: password });
    expect(byVariable).toMatchObject({ code: 0, stderr: '' });
  });

  test('a restore into a new database, and one table of it beside the live ones', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    await cellarJson(['backup'], environment);
    const name = `${database.name}_new`;
    const url = database.cluster.url(name);
    try {
      const restore = ['restore', 'latest', '--to', 'env:TARGET', '--mode', 'new'];
      const done = await cellar(restore, { ...environment, TARGET: url });
      expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining(`Restored ${name}`) });
      const again = await cellar(restore, { ...environment, TARGET: url });
      expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining(name) });

      const table = ['restore', 'latest', '--to', 'env:TARGET', '--table', 'vessels', '--into-schema', 'rescued'];
      expect(await cellar(table, { ...environment, TARGET: url })).toMatchObject({ code: 0 });
      expect(await database.cluster.psql('SELECT count(*) FROM rescued.vessels', name)).toBe('24\n');
    } finally {
      await database.cluster.dropDatabase(name);
    }
  });

  test('without a terminal and without --yes nothing that exists is replaced', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    const { id } = await cellarJson<Backup>(['backup'], environment);
    for (const args of [
      ['restore', 'latest', '--to', 'env:DATABASE_URL'],
      ['restore', 'latest', '--to', 'env:DATABASE_URL', '--mode', 'in-place'],
      ['restore', 'latest', '--to', 'env:DATABASE_URL', '--table', 'vessels'],
      ['delete', id, '--force'],
    ]) {
      const { code, stderr } = await cellar(args, environment);
      expect(stderr).toContain('--yes');
      expect(code).toBe(2);
    }
    expect(await cellarJson<Backup[]>(['list'], environment)).toHaveLength(1);
  });

  test('what is exported is taken by the stock tools', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    await using target = await testDatabase();
    const environment = await setUp(folder.path, database, '--encrypt');
    await cellarJson(['backup'], environment);
    const dump = join(folder.path, 'brewery.dump');
    const script = join(folder.path, 'brewery.sql.gz');
    expect(await cellar(['export', 'latest', '--as', 'dump', '-o', dump], environment)).toMatchObject({ code: 0 });
    expect(await cellar(['export', 'latest', '--as', 'sql.gz', '-o', script], environment)).toMatchObject({ code: 0 });
    const listing = await run(join(database.cluster.binaries, 'pg_restore'), ['-l', dump]);
    expect(listing.stdout).toContain('TABLE DATA public events');
    await target.cluster.psql(gunzipSync(await readFile(script)).toString(), target.name);
    expect(await countRows(target, 'events')).toBe(await countRows(database, 'events'));

    const refused = await cellar(['export', 'latest', '--as', 'dump', '-o', dump], environment);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('--force') });
    expect((await stat(dump)).mode & 0o077).toBe(0);
    expect((await readdir(folder.path)).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('a backup goes by a unique start of its id, and an ambiguous or unknown one names what there is', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    expect(await cellar(['show', 'latest'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no backup'),
    });
    const { id } = await cellarJson<Backup>(['backup'], environment);
    const other = await cellarJson<Backup>(['backup'], environment);
    expect((await cellar(['show', id.slice(0, 20).toLowerCase(), '--quiet'], environment)).stdout).toBe(`${id}\n`);
    const ambiguous = await cellar(['show', id.slice(0, 2)], environment);
    expect(ambiguous).toMatchObject({ code: 1, stderr: expect.stringContaining(other.id) });
    expect(ambiguous.stderr).toContain(id);
    expect(await cellar(['show', 'ZZZ'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cellar list'),
    });
  });

  test('holds, the last good backup, and rules', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    const ids: string[] = [];
    for (let count = 0; count < 3; count++) ids.push((await cellarJson<Backup>(['backup'], environment)).id);
    const [oldest = '', middle = '', newest = ''] = ids;

    expect(await cellar(['hold', oldest, '--reason', 'audit'], environment)).toMatchObject({ code: 0 });
    const held = await cellar(['delete', oldest, '--yes'], environment);
    expect(held).toMatchObject({ code: 1, stderr: expect.stringContaining('held') });

    interface Cleanup {
      readonly decisions: readonly { readonly id: string; readonly action: string; readonly reasons: string[] }[];
      readonly deleted: readonly string[];
    }
    const dry = await cellarJson<Cleanup>(['cleanup', '--keep-last', '1', '--dry-run'], environment);
    expect(dry.decisions.map(({ id, action }) => [id, action])).toEqual([
      [newest, 'keep'],
      [middle, 'delete'],
      [oldest, 'keep'],
    ]);
    expect(dry.decisions[2]?.reasons).toContain('held: audit');
    expect(dry.deleted).toEqual([]);
    expect(await cellarJson<Backup[]>(['list'], environment)).toHaveLength(3);

    const text = await cellar(['cleanup', '--keep-last', '1', '--dry-run'], environment);
    expect(text.stdout).toContain('Nothing was changed.');
    expect(text.stdout).toMatch(new RegExp(`^delete +${middle} .*not among the last 1$`, 'm'));

    expect((await cellarJson<Cleanup>(['cleanup', '--keep-last', '1'], environment)).deleted).toEqual([middle]);
    expect(await cellar(['release', oldest], environment)).toMatchObject({ code: 0 });
    const again = await cellar(['release', oldest], environment);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('is not on hold') });
    expect(await cellar(['delete', oldest, '--yes'], environment)).toMatchObject({ code: 0 });
    const last = await cellar(['delete', newest, '--yes'], environment);
    expect(last).toMatchObject({ code: 2, stderr: expect.stringContaining('last good backup') });
    expect(await cellar(['delete', newest, '--yes', '--force'], environment)).toMatchObject({ code: 0 });
    expect(await cellarJson<Backup[]>(['list'], environment)).toEqual([]);
  });

  test('keys are added and removed, and the recovery key opens what no passphrase does any more', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database, '--encrypt');
    await cellarJson(['backup'], environment);
    const kit = await cellar(['key', 'kit', '--quiet'], environment);
    const [first] = await cellarJson<{ id: string }[]>(['key', 'list'], environment);
    expect(await cellar(['key', 'remove', first?.id ?? '', '--yes'], environment)).toMatchObject({ code: 1 });

    const passphrase = join(folder.path, 'new');
    await writeFile(passphrase, 'another one\n');
    expect(
      await cellar(['key', 'add', '--new-passphrase-file', passphrase, '--label', 'office'], environment),
    ).toMatchObject({ code: 0 });
    expect(await cellar(['key', 'remove', first?.id ?? '', '--yes'], environment)).toMatchObject({ code: 0 });

    expect(await cellar(['list'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('does not open'),
    });
    const withNew = { ...environment, CELLAR_PASSPHRASE: undefined, CELLAR_PASSPHRASE_FILE: passphrase };
    expect(await cellarJson<Backup[]>(['list'], withNew)).toHaveLength(1);
    expect(await cellarJson<Backup[]>(['list'], { ...environment, CELLAR_PASSPHRASE: kit.stdout.trim() })).toHaveLength(
      1,
    );
  });
});

describe('plain files', () => {
  test('are written, listed, verified and restored, and gunzip alone reads them', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const dir = join(folder.path, 'plain');
    const environment = { DATABASE_URL: database.url };
    const missing = await cellar(['list', '--dir', dir]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('There is no folder') });
    const written = await cellarJson<{ filename: string; row_count: number }>(
      ['backup', '--to-dir', dir, '--prefix', 'shop', '-m', 'a note'],
      environment,
    );
    expect(written.filename).toMatch(/^shop_backup_\d{8}_\d{6}\.sql\.gz$/);
    expect(gunzipSync(await readFile(join(dir, written.filename))).toString()).toContain('CREATE TABLE public.events');
    const [listed] = await cellarJson<object[]>(['list', '--dir', dir]);
    expect(listed).toMatchObject({ filename: written.filename, description: 'a note', database_name: database.name });
    expect(await cellarJson(['verify', '--dir', dir])).toMatchObject({ damaged: false });

    await database.cluster.query('TRUNCATE vessels CASCADE', database.name);
    const restore = ['restore', 'latest', '--dir', dir, '--to', 'env:DATABASE_URL', '--yes'];
    const restored = await cellarJson<{ previous: { database: string } }>(restore, environment);
    await database.cluster.dropDatabase(restored.previous.database);
    expect(await countRows(database, 'vessels')).toBe(24);
  });

  test('encrypted with a passphrase are verified by their digest without it, and restored only with it', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const dir = join(folder.path, 'plain');
    const environment = { DATABASE_URL: database.url, CELLAR_PASSPHRASE: 'open sesame' };
    const written = await cellar(
      ['backup', '--to-dir', dir, '--encrypt', '--compress', 'zstd', '--quiet'],
      environment,
    );
    expect(written.stdout).toMatch(/\.sql\.zst\.age\n$/);
    expect((await cellar(['verify', '--dir', dir])).stdout).toContain('only its digest was compared');
    expect((await cellar(['verify', '--dir', dir], environment)).stdout).toMatch(/whole, \d+ tables/);
    const restore = ['restore', 'latest', '--dir', dir, '--to', 'env:DATABASE_URL', '--yes'];
    expect(await cellar(restore, { ...environment, CELLAR_PASSPHRASE: 'wrong' })).toMatchObject({ code: 1 });
    expect(await cellar(restore, { ...environment, CELLAR_PASSPHRASE: undefined })).toMatchObject({ code: 2 });
  });

  test('that were cut end verify and restore with exit code 3, and the database as it was', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const dir = join(folder.path, 'plain');
    const environment = { DATABASE_URL: database.url };
    const file = (await cellar(['backup', '--to-dir', dir, '--quiet'], environment)).stdout.trim();
    await truncate(join(dir, file), (await stat(join(dir, file))).size - 1000);
    expect(await cellar(['list', '--dir', dir])).toMatchObject({ code: 3 });
    expect(await cellar(['verify', '--dir', dir])).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('DAMAGED'),
    });
    const restore = ['restore', 'latest', '--dir', dir, '--to', 'env:DATABASE_URL', '--yes'];
    expect(await cellar(restore, environment)).toMatchObject({ code: 3 });
    expect(await countRows(database, 'vessels')).toBe(24);
  });
});

describe('when things go wrong', () => {
  test('a flipped bit ends verify and restore with exit code 3, naming object and backup, and the database stays as it was', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database, '--encrypt');
    const { id } = await cellarJson<Backup>(['backup'], environment);
    const packs = join(folder.path, 'repository', 'packs');
    const names = (await readdir(packs, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const [pack] = names;
    const path = join(pack?.parentPath ?? '', pack?.name ?? '');
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
    await writeFile(path, bytes);

    expect(await cellar(['verify'], environment)).toMatchObject({ code: 0 });
    const verified = await cellar(['verify', '--read-data'], environment);
    expect(verified.code).toBe(3);
    expect(verified.stdout).toContain(pack?.name ?? 'no pack');
    expect(verified.stdout).toContain(`harms the backup ${id}`);

    const before = await database.cluster.psql(
      'SELECT oid FROM pg_database WHERE datname = current_database()',
      database.name,
    );
    const restore = ['restore', 'latest', '--to', 'env:DATABASE_URL', '--yes'];
    expect(await cellar(restore, environment)).toMatchObject({ code: 3, stderr: expect.stringContaining('packs/') });
    const after = await database.cluster.psql(
      'SELECT oid FROM pg_database WHERE datname = current_database()',
      database.name,
    );
    expect(after).toBe(before);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s cancels a backup with exit code 130, and nothing is listed',
    async (signal) => {
      await using folder = await temporaryFolder();
      await using database = await testDatabase('brewery');
      const environment = await setUp(folder.path, database);
      // A table that somebody holds locked keeps the backup waiting for as long as the test needs.
      const released = database.cluster
        .psql('BEGIN; LOCK TABLE vessels; SELECT pg_sleep(60)', database.name)
        .catch(() => undefined);
      await waitForLock(database);
      const running = startCellar(['backup', '--progress', 'json'], environment);
      await waitForOutput(running, '"phase":"connect"');
      running.child.kill(signal);
      const { code, stdout, stderr } = await running.finished;
      expect(stderr).toContain('cancelled');
      expect(code).toBe(130);
      expect(stdout).toBe('');
      await database.cluster.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND datname = '${database.name}' AND pid <> pg_backend_pid()`,
      );
      await released;
      expect(await cellarJson<Backup[]>(['list'], environment)).toEqual([]);
      expect(await cellar(['backup', '--quiet'], environment)).toMatchObject({ code: 0 });
    },
  );

  test('a locked table fails the backup after the lock timeout, with the table named', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    const released = database.cluster
      .psql('BEGIN; LOCK TABLE vessels; SELECT pg_sleep(60)', database.name)
      .catch(() => undefined);
    await waitForLock(database);
    const { code, stderr } = await cellar(['backup', '--lock-timeout', '500ms'], environment);
    expect(stderr).toContain('lock');
    expect(code).toBe(1);
    await database.cluster.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND datname = '${database.name}' AND pid <> pg_backend_pid()`,
    );
    await released;
  });

  test('a result longer than a pipe comes whole, also through npx and to a reader that takes its time', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase();
    const environment = await setUp(folder.path, database);
    await cellarJson(['backup', '--description', 'long '.repeat(24_000)], environment);
    const { stdout } = await cellar(['list', '--json'], environment);
    expect(stdout.length).toBeGreaterThan(120_000);
    expect(await bytesThroughSlowPipe(['list', '--json'], environment)).toBe(stdout.length);
  });

  test('an export whose reader goes away ends with exit code 1 and says nothing', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase('brewery');
    const environment = await setUp(folder.path, database);
    await cellarJson(['backup'], environment);
    const running = startCellar(['export', 'latest', '--as', 'sql', '--quiet'], environment);
    running.child.stdout.once('data', () => running.child.stdout.destroy());
    expect(await running.finished).toMatchObject({ code: 1, stderr: '' });
  });

  test('a list whose reader goes away is no failure', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase();
    const environment = await setUp(folder.path, database);
    const running = startCellar(['list'], environment);
    running.child.stdout.destroy();
    expect(await running.finished).toMatchObject({ code: 0, stderr: '' });
  });
});

/** Until the sleeping session of this database holds its lock. */
async function waitForLock({ cluster, name }: TestDatabase): Promise<void> {
  const deadline = Date.now() + 20_000;
  const held =
    "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'vessels'::regclass AND granted";
  while ((await cluster.query(held, name)).length === 0) {
    if (Date.now() > deadline) throw new Error('The lock was not taken.');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
