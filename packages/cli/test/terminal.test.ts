/** What a person sees and types, on a pseudo-terminal. */
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { testDatabase } from '../../core/test/harness/databases.ts';
import { answer, cellar, cellarJson, startOnTerminal, temporaryFolder, waitForOutput } from './cellar.ts';

test('a new passphrase is asked for twice and never shown; the repository opens with it alone', async () => {
  await using folder = await temporaryFolder();
  const environment = { CELLAR_REPO: join(folder.path, 'r') };
  const made = await answer(startOnTerminal(['init', '--encrypt'], environment), [
    ['New passphrase', 'seven hungry owls'],
    ['once more', 'seven hungry owls'],
  ]);
  expect(made.stdout).toContain('Created an encrypted repository');
  expect(made.stdout).not.toContain('owls');
  expect(made.code).toBe(0);

  const listed = await answer(startOnTerminal(['list'], environment), [['Passphrase of', 'seven hungry owls']]);
  expect(listed.stdout).toContain('There are no backups yet.');
  expect(listed.code).toBe(0);
  expect(await cellar(['list'], { ...environment, CELLAR_PASSPHRASE: 'seven hungry owls' })).toMatchObject({ code: 0 });

  const refused = await answer(startOnTerminal(['list'], environment), [['Passphrase of', 'six hungry owls']]);
  expect(refused.stdout).toContain('does not open');
  expect(refused.code).toBe(1);
});

test('a second passphrase that differs is refused, and Ctrl-C at the question ends with exit code 130', async () => {
  await using folder = await temporaryFolder();
  const running = startOnTerminal(['init', '--encrypt'], { CELLAR_REPO: join(folder.path, 'r') });
  const finished = await answer(running, [
    ['New passphrase', 'one'],
    ['once more', 'another'],
    ['not the same passphrase', '\u0003'],
  ]);
  expect(finished.code).toBe(130);
});

test('a restore asks for the name of the database, and any other answer changes nothing', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase('brewery');
  const environment = { CELLAR_REPO: join(folder.path, 'r'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  await cellarJson(['backup'], environment);
  const oid = () =>
    database.cluster.psql('SELECT oid FROM pg_database WHERE datname = current_database()', database.name);
  const before = await oid();

  const restore = ['restore', 'latest', '--to', 'env:DATABASE_URL', '--mode', 'in-place'];
  const refused = await answer(startOnTerminal(restore, environment), [[`Type ${database.name}`, 'yes']]);
  expect(refused).toMatchObject({ code: 2, stdout: expect.stringContaining('nothing was changed') });
  expect(await oid()).toBe(before);

  // Ctrl-C and Ctrl-D.
  for (const key of ['\u0003', '\u0004']) {
    const left = await answer(startOnTerminal(restore, environment), [[`Type ${database.name}`, key]]);
    expect(left.stdout).toContain('Cancelled: nothing was changed.');
    expect(left.code).toBe(130);
    expect(await oid()).toBe(before);
  }

  await database.cluster.query('DROP TABLE events CASCADE', database.name);
  const agreed = await answer(startOnTerminal(restore, environment), [[`Type ${database.name}`, database.name]]);
  expect(agreed).toMatchObject({ code: 0, stdout: expect.stringContaining('Restored') });
  expect(await database.cluster.psql("SELECT to_regclass('events')", database.name)).toBe('events\n');
});

test('a backup shows a bar with bytes, rows and rate, and leaves the cursor visible', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase('brewery');
  const environment = { CELLAR_REPO: join(folder.path, 'r'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  const { stdout, code } = await startOnTerminal(['backup', '--jobs', '1'], environment).finished;
  expect(code).toBe(0);
  expect(stdout).toMatch(/dump +[█░]+ +\d+ % {2}[\d.]+ [kM]?B of about [\d.]+ MB/);
  expect(stdout).toContain('rows');
  expect(stdout.lastIndexOf('\u001b[?25h')).toBeGreaterThan(stdout.lastIndexOf('\u001b[?25l'));
});

test('tables fit the terminal, and colours obey NO_COLOR', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase();
  const environment = { CELLAR_REPO: join(folder.path, 'r'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  await cellarJson(
    ['backup', '--description', 'a description that is much longer than any terminal is wide '.repeat(3)],
    environment,
  );
  for (const columns of [64, 80, 140]) {
    const { stdout } = await startOnTerminal(['list'], environment, columns).finished;
    expect(stdout).toContain('\u001b[1m');
    for (const line of stripVTControlCharacters(stdout).split(/\r?\n/))
      expect(line.length).toBeLessThanOrEqual(columns);
  }
  const plain = await startOnTerminal(['list'], { ...environment, NO_COLOR: '1' }).finished;
  expect(plain.stdout).not.toContain('\u001b[');
  const piped = await cellar(['list'], environment);
  expect(piped.stdout).toContain('wide a description');
  expect(piped.stdout).not.toContain('\u001b');
});

test('Ctrl-C on a terminal cancels, and a second one leaves at once', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase('brewery');
  const environment = { CELLAR_REPO: join(folder.path, 'r'), DATABASE_URL: database.url };
  await cellar(['init'], environment);
  const running = startOnTerminal(['backup'], environment);
  await waitForOutput(running, 'connect');
  running.child.stdin.write('\u0003\u0003');
  const { code } = await running.finished;
  expect(code).toBe(130);
});
