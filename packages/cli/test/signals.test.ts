import { join } from 'node:path';
import pg from 'pg';
import { expect, test } from 'vitest';
import { testDatabase } from '../../core/test/harness/databases.ts';
import { cellar, startCellar, temporaryFolder, waitForOutput } from './cellar.ts';

test('two Ctrl-C in the middle of a swap do not leave the live database closed', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase();
  const { cluster, name } = database;
  const environment = { CELLAR_REPO: join(folder.path, 'r'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  await cellar(['backup'], environment);

  // Keeps the swap waiting: the database's own row is being changed by somebody else.
  const other = new pg.Client({ connectionString: cluster.url('postgres') });
  await other.connect();
  try {
    await other.query(`BEGIN; ALTER DATABASE ${name} CONNECTION LIMIT 5`);
    const restore = ['restore', 'latest', '--to', 'env:DATABASE_URL', '--yes', '--json', '--progress', 'json'];
    const running = startCellar(restore, environment);
    await waitForOutput(running, '"phase":"swap"');
    running.child.kill('SIGINT');
    running.child.kill('SIGTERM');
    await waitForOutput(running, 'The databases are being swapped');
    await other.query('ROLLBACK');
    const { code, stdout } = await running.finished;
    expect(code).toBe(0);
    const { previous } = JSON.parse(stdout) as { readonly previous: { readonly database: string } };
    await cluster.dropDatabase(previous.database);
    expect(await cluster.psql('SELECT 1', name)).toBe('1\n');
  } finally {
    await other.end();
  }
});
