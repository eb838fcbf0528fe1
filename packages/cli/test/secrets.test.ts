import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { testDatabase } from '../../core/test/harness/databases.ts';
import { cellar, startCellar, temporaryFolder } from './cellar.ts';

const SECRET = 'Tr0ub4dor&3';
const ENCODED = encodeURIComponent(SECRET);

test.each([
  [['bogus', `postgres://app:${ENCODED}@localhost/shop`]],
  [[`postgres://app:${ENCODED}@localhost/shop`]],
  [['list', `postgres://app:${ENCODED}@localhost/shop`]],
  [['probe', `postgres://app:${ENCODED}@127.0.0.1:1/shop`, '--verbose']],
  [['probe', `postgres://app:${ENCODED}@127.0.0.1:1/shop?sslmode=nonsense`, '--verbose']],
  [['probe', `postgres://127.0.0.1:1/shop?user=app&password=${ENCODED}`, '--verbose']],
  [['list', '--dir', `postgres://app:${ENCODED}@localhost/shop`, '--json']],
  [['verify', '--repo', '.', `postgres://app:${ENCODED}@localhost/shop`, '--verbose']],
  [
    [
      'restore',
      `postgres://app:${ENCODED}@localhost/shop`,
      '--dir',
      '.',
      '--to',
      'postgres://b',
      '--json',
      '--verbose',
    ],
  ],
  [['backup', `postgres://app:${ENCODED}@127.0.0.1:1/shop`, '--to-dir', `postgres://app:${ENCODED}@localhost/shop`]],
  [['probe', `mysql://app:${ENCODED}@127.0.0.1:1/shop`, '--verbose']],
])('no message repeats a password of the argument list: %j', async (args) => {
  const { code, stdout, stderr } = await cellar(args);
  expect(code).toBeGreaterThan(0);
  expect(stderr).not.toBe('');
  for (const secret of [SECRET, ENCODED, 'Tr0ub4dor']) expect(stdout + stderr).not.toContain(secret);
});

test('a wrong password of a real server is told without the password', async () => {
  await using database = await testDatabase();
  const url = database.cluster.url(database.name, 'postgres', SECRET);
  const { code, stderr } = await cellar(['probe', '--verbose'], { DATABASE_URL: url });
  expect(code).toBe(1);
  expect(stderr).toMatch(/password|login/i);
  expect(stderr).not.toContain('Tr0ub4dor');
});

test('the argument list that others can read holds no URL while the command and its tools work', async () => {
  await using folder = await temporaryFolder();
  await using database = await testDatabase('brewery');
  const environment = { CELLAR_REPO: join(folder.path, 'r'), CELLAR_PASSPHRASE: SECRET };
  await cellar(['init', '--encrypt'], environment);
  const password = new URL(database.url).password;
  const running = startCellar(['backup', database.url], environment);
  const seen = new Set<string>();
  let ended = false;
  void running.finished.then(() => {
    ended = true;
  });
  while (!ended) {
    for (const pid of await tree(running.child.pid ?? 0)) seen.add(await argumentsOf(pid));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(await running.finished).toMatchObject({ code: 0 });
  expect([...seen].some((line) => line.startsWith('cellar backup'))).toBe(true);
  expect([...seen].some((line) => line.includes('pg_dump'))).toBe(true);
  // Before the command has started to run, the list is what the caller made it.
  const afterStart = [...seen].filter((line) => !line.includes('main.js'));
  for (const secret of [password, SECRET]) expect(afterStart.join('\n')).not.toContain(secret);
});

async function tree(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const below = await Promise.all(
    children
      .split(' ')
      .filter((text) => text !== '')
      .map((text) => tree(Number(text))),
  );
  return [pid, ...below.flat()];
}

async function argumentsOf(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.replaceAll('\0', ' ').trim();
}
