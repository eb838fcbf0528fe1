import { execFileSync } from 'node:child_process';
import { lstat, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../test/cellar.ts';
import { writeFileWhole } from './byte-sink.ts';

const signal = new AbortController().signal;

async function* bytes(text: string) {
  yield Buffer.from(text);
}

test('a pipe or device is written into and stays what it is', async () => {
  await using folder = await temporaryFolder();
  const pipe = join(folder.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const [taken] = await Promise.all([readFile(pipe, 'utf8'), writeFileWhole(pipe, bytes('dump'), signal)]);
  expect(taken).toBe('dump');
  expect((await lstat(pipe)).isFIFO()).toBe(true);
  expect(await readdir(folder.path)).toEqual(['pipe']);
});

test('through a link its file is replaced, and not what a link leads to that somebody put in the way', async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await writeFile(at('file'), 'old');
  await writeFile(at('precious'), 'precious');
  await symlink('file', at('link'));
  await symlink('precious', at('file.cellar-partial'));
  await writeFileWhole(at('link'), bytes('new'), signal);
  expect(await readFile(at('file'), 'utf8')).toBe('new');
  expect(await readFile(at('precious'), 'utf8')).toBe('precious');
  expect((await lstat(at('link'))).isSymbolicLink()).toBe(true);
});

test('what fails leaves the file that was there, and nothing beside it', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'file');
  await writeFile(path, 'old');
  async function* failing() {
    yield Buffer.from('new');
    throw new Error('the source failed');
  }
  await expect(writeFileWhole(path, failing(), signal)).rejects.toThrow('the source failed');
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(folder.path)).toEqual(['file']);
});
