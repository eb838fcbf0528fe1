import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cellar, temporaryFolder } from './cellar.ts';

const URL = 'postgres://nobody@localhost/nowhere';

describe('what is refused with exit code 2, before anything is touched', () => {
  test.each([
    [['bogus'], "unknown command 'bogus'"],
    [['backup', '--jobs', '0'], 'whole number from 1 to 64'],
    [['backup', '--jobs', 'two'], 'whole number from 1 to 64'],
    [['cleanup', '--repo', 'x', '--keep-days', '-1'], 'whole number from 1'],
    [['cleanup', '--repo', 'x', '--keep-last', '0'], 'whole number from 1'],
    [['cleanup', '--repo', 'x', '--keep-size', 'much'], 'such as 500MB'],
    [['cleanup', '--repo', 'x', '--time-zone', 'Nowhere/Land'], 'time zone such as'],
    [['verify', '--repo', 'x', '--read-data=200'], 'percentage above 0 and up to 100'],
    [['verify', '--repo', 'x', '--read-data=0'], 'percentage above 0 and up to 100'],
    [['backup', URL, '--repo', 'x', '--lock-timeout', '30'], 'such as 30s'],
    [['backup', URL, '--repo', ''], 'It is empty.'],
    [['backup', '--repo', 'x'], 'Which database?'],
    [['backup', URL], 'Which repository?'],
    [['backup', 'env:NOT_SET', '--repo', 'x'], 'The variable NOT_SET'],
    [['backup', URL, '--repo', 'x', '--to-dir', 'y'], 'two different places'],
    [['backup', URL, '--repo', 'x', '--compress', 'zstd'], '--compress is for plain files'],
    [['backup', URL, '--to-dir', 'y', '--compress', 'lzma'], 'Allowed choices are gzip, zstd'],
    [['backup', URL, '--to-dir', 'y', '--tag', 'a'], '--tag is for repositories'],
    [['backup', URL, '--to-dir', 'y', '--encrypt', '--age-recipient', 'age1x'], 'not both'],
    [['list'], 'Where are the backups?'],
    [['list', '--repo', 'x', '--dir', 'y'], 'two different places'],
    [['restore', 'latest', '--repo', 'x'], "required option '-t, --to <database-url>'"],
    [
      ['restore', 'latest', '--repo', 'x', '--to', URL, '--mode', 'sideways'],
      'Allowed choices are swap, in-place, new',
    ],
    [['restore', 'latest', '--repo', 'x', '--to', URL, '--schema-only', '--data-only'], 'nothing to restore'],
    [['restore', 'latest', '--repo', 'x', '--to', URL, '--into-schema', 's'], 'for chosen tables'],
    [['restore', 'latest', '--repo', 'x', '--to', URL, '--mode', 'swap', '--table', 't'], 'replaces a whole database'],
    [['restore', 'latest', '--repo', 'x', '--to', URL, '--table', 'a.b.c'], 'It takes a table'],
    [['restore', 'latest', '--repo', 'x', '--to', 'mysql://localhost/shop', '--yes'], 'no database engine'],
    [['delete', 'latest', '--repo', 'x'], 'may be another backup by the time'],
    [['export', 'latest', '--repo', 'x'], "required option '--as <format>'"],
    [['init', '--repo', 'x', '--encrypt', '--age-recipient', 'age1x'], 'asks for a passphrase'],
  ])('%j', async (args, words) => {
    const { code, stdout, stderr } = await cellar(args);
    expect(stderr).toContain(words);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });

  test('a storage of a kind that does not exist', async () => {
    const { code, stderr } = await cellar(['list', '--repo', 'ftp://server/backups']);
    expect(stderr).toContain('ftp://');
    expect(code).toBe(2);
  });

  test('an encrypted repository where nobody can be asked for a passphrase, and nothing is left behind', async () => {
    await using folder = await temporaryFolder();
    const { code, stderr } = await cellar(['init', '--repo', join(folder.path, 'r'), '--encrypt']);
    expect(stderr).toContain('CELLAR_PASSPHRASE_FILE');
    expect(code).toBe(2);
    expect(await readdir(folder.path)).toEqual([]);
  });

  test('a passphrase file that is missing or empty', async () => {
    await using folder = await temporaryFolder();
    const file = join(folder.path, 'passphrase');
    const init = () => cellar(['init', '--repo', join(folder.path, 'r'), '--encrypt', '--passphrase-file', file]);
    expect(await init()).toMatchObject({ code: 2, stderr: expect.stringContaining('cannot be read') });
    await writeFile(file, '\n');
    expect(await init()).toMatchObject({ code: 2, stderr: expect.stringContaining('is empty') });
  });
});

describe('help', () => {
  const COMMANDS = [
    'init',
    'probe',
    'backup',
    'list',
    'show',
    'restore',
    'export',
    'verify',
    'cleanup',
    'delete',
    'hold',
    'release',
    'key',
  ];

  test.each(COMMANDS)('of %s has examples and ends with exit code 0', async (command) => {
    const { code, stdout, stderr } = await cellar([command, '--help']);
    expect(stdout).toMatch(/\$ (DATABASE_URL=\S+ )?cellar /);
    expect(stdout).toContain(`Usage: cellar ${command}`);
    expect(stderr).toBe('');
    expect(code).toBe(0);
  });

  test('names every command', async () => {
    const { stdout } = await cellar(['--help']);
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${command}[ |]`, 'm'));
  });

  test('the version is that of the package', async () => {
    expect(await cellar(['--version'])).toEqual({ code: 0, stdout: '0.1.0\n', stderr: '' });
  });
});

test.each(['bash', 'zsh', 'fish'])('completion for %s is a script, and asks the command back', async (shell) => {
  const script = await cellar(['complete', shell]);
  expect(script).toMatchObject({ code: 0, stderr: '' });
  expect(script.stdout).toContain('cellar');
  const commands = await cellar(['complete', '--', 're']);
  expect(commands.stdout).toContain('restore');
  const options = await cellar(['complete', '--', 'restore', '--mo']);
  expect(options.stdout).toContain('--mode');
});

test('an error is one JSON document on stdout with --json, and words on stderr', async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await cellar(['list', '--repo', join(folder.path, 'absent'), '--json']);
  expect(JSON.parse(stdout)).toMatchObject({
    error: {
      code: 'not-found',
      message: expect.stringContaining('no repository'),
      hint: expect.any(String),
      retryable: false,
    },
  });
  expect(stderr).toMatch(/^Error: There is no repository at .*cellar init.*\n$/);
  expect(code).toBe(1);
});

test('what an error was caused by is told only when it is asked for', async () => {
  await using folder = await temporaryFolder();
  const list = ['list', '--repo', join(folder.path, 'absent')];
  expect((await cellar(list)).stderr).not.toContain('    at ');
  expect((await cellar([...list, '--verbose'])).stderr).toContain('    at ');
  expect((await cellar(list, { CELLAR_DEBUG: '1' })).stderr).toContain('caused by');
});
