/** Backups of a part of a database, and restores of parts: what they must not replace without being told to. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { testDatabase } from '../../core/test/harness/databases.ts';
import { cellar, cellarJson, temporaryFolder } from './cellar.ts';

const TABLES = 'CREATE TABLE beers (id int PRIMARY KEY); INSERT INTO beers SELECT generate_series(1, 50)';

describe('a backup of a part', () => {
  test('does not replace a database by --yes alone, whether from a repository or from a plain file, in no mode', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase();
    await database.cluster.psql(TABLES, database.name);
    const dir = join(folder.path, 'plain');
    const environment = { CELLAR_REPO: join(folder.path, 'repository'), DATABASE_URL: database.url };
    await cellar(['init'], environment);
    expect(await cellar(['backup', '--schema-only'], environment)).toMatchObject({ code: 0 });
    expect(await cellar(['backup', '--exclude-table', 'x*', '--to-dir', dir], environment)).toMatchObject({ code: 0 });

    const to = ['--to', 'env:DATABASE_URL', '--yes'];
    for (const mode of ['swap', 'in-place']) {
      const { code, stderr } = await cellar(['restore', 'latest', ...to, '--mode', mode], environment);
      expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('(definitions only)') });
      expect(stderr).toContain('--accept-part');
      const plain = await cellar(['restore', 'latest', '--dir', dir, ...to, '--mode', mode], environment);
      expect(plain).toMatchObject({ code: 2, stderr: expect.stringContaining('(without tables x*)') });
    }
    expect(await database.cluster.psql('SELECT count(*) FROM beers', database.name)).toBe('50\n');

    const accepted = await cellar(['restore', 'latest', ...to, '--mode', 'in-place', '--accept-part'], environment);
    expect(accepted).toMatchObject({ code: 0 });
    expect(await database.cluster.psql('SELECT count(*) FROM beers', database.name)).toBe('0\n');
    expect((await cellar(['list'], environment)).stdout).toContain('(definitions only)');
  });

  test('is not the last good backup of the whole', async () => {
    await using folder = await temporaryFolder();
    await using database = await testDatabase();
    const environment = { CELLAR_REPO: join(folder.path, 'repository'), DATABASE_URL: database.url };
    await cellar(['init'], environment);
    const { id } = await cellarJson<{ id: string }>(['backup'], environment);
    await cellarJson(['backup', '--schema-only'], environment);
    const { code, stderr } = await cellar(['delete', id, '--yes'], environment);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('last good backup') });
  });
});

test('tables restored into another schema replace nothing there unless that was asked for', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase();
  const { cluster, name } = database;
  await cluster.psql(TABLES, name);
  const environment = { CELLAR_REPO: join(folder.path, 'repository'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  await cellarJson(['backup'], environment);
  await cluster.psql('CREATE SCHEMA rescued; CREATE TABLE rescued.beers (mine text)', name);

  const into = ['--to', 'env:DATABASE_URL', '--table', 'beers', '--into-schema', 'rescued'];
  const refused = await cellar(['restore', 'latest', ...into], environment);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('has these tables already') });
  const unconfirmed = await cellar(['restore', 'latest', ...into, '--mode', 'in-place'], environment);
  expect(unconfirmed).toMatchObject({ code: 2, stderr: expect.stringContaining('in the schema rescued') });
  expect(await cluster.psql('SELECT mine FROM rescued.beers', name)).toBe('');

  const replaced = await cellar(['restore', 'latest', ...into, '--mode', 'in-place', '--yes'], environment);
  expect(replaced).toMatchObject({ code: 0 });
  expect(await cluster.psql('SELECT count(*) FROM rescued.beers', name)).toBe('50\n');
});

test('cleanup of a folder removes sidecars whose files are gone, and says so', async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, 'plain');
  const orphan = 'shop_backup_20240101_020000.sql.json';
  await mkdir(dir);
  await writeFile(join(dir, orphan), '{}');
  expect(await cellar(['list', '--dir', dir])).toMatchObject({ code: 0, stderr: expect.stringContaining(orphan) });
  const dry = await cellar(['cleanup', '--dir', dir, '--keep-last', '1', '--dry-run']);
  expect(dry.stdout).toContain(`Would remove 1 sidecar whose file is gone: ${orphan}.`);
  expect(await cellarJson(['cleanup', '--dir', dir, '--keep-last', '1'])).toMatchObject({ orphans: [orphan] });
  expect((await cellar(['list', '--dir', dir])).stderr).not.toContain(orphan);
  await rm(dir, { recursive: true });
});

test('a hold is released also when the manifest cannot be read, so that the backup can be deleted', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase();
  const repository = join(folder.path, 'repository');
  const environment = { CELLAR_REPO: repository, DATABASE_URL: database.url };
  await cellar(['init'], environment);
  const { id } = await cellarJson<{ id: string }>(['backup'], environment);
  await cellar(['hold', id, '--reason', 'audit'], environment);
  const [manifest] = (await readdir(join(repository, 'backups'), { recursive: true, withFileTypes: true })).filter(
    (entry) => entry.isFile(),
  );
  await writeFile(join(manifest?.parentPath ?? '', manifest?.name ?? ''), 'no manifest');
  expect(await cellar(['release', id], environment)).toMatchObject({ code: 0 });
  const again = await cellar(['release', id], environment);
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('is not on hold') });
  expect(await cellar(['delete', id, '--yes'], environment)).toMatchObject({ code: 0 });
});
