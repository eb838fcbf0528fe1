/**
 * `npm run test:majors -- --folder DIR [--suites bullseye,trixie,sid] [--mirror URL] [TEST FILES…]`: runs the tests that speak to
 * PostgreSQL on every major version that Debian's suites have. Not part of `npm test`: it downloads some 300 MB per suite and
 * needs root on Debian or Ubuntu.
 *
 * Each suite is unpacked by debootstrap into a folder of its own, where its PostgreSQL stays for the next run. Its executables are
 * told by patchelf to use that folder's loader and libraries, so that they run outside of it like any others.
 */
import { spawn } from 'node:child_process';
import { access, chmod, lstat, mkdir, open, readdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { provideTools, toolsNotOnPath } from './system-tools.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** What every major must pass: dump and restore, from the engine alone up to the whole road. */
const TESTS = [
  'packages/core/src/engine',
  'packages/core/test/dump',
  'packages/core/test/restore',
  'packages/core/test/end-to-end',
  'packages/core/test/harness/compare-databases.test.ts',
];

/** Needs more than one major at a time; skipped where there is none. */
const ACROSS_MAJORS = 'packages/core/test/end-to-end/majors.test.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    folder: { type: 'string' },
    suites: { type: 'string', default: 'bullseye,trixie,sid' },
    mirror: { type: 'string', default: 'http://deb.debian.org/debian' },
  },
});
if (values.folder === undefined) {
  console.error('Say where the suites are kept between runs: npm run test:majors -- --folder /var/cache/cellar-majors');
  process.exit(2);
}

const TOOLS = ['debootstrap', 'patchelf'].map((name) => ({ command: name, debianPackage: name }));
await provideTools(await toolsNotOnPath(TOOLS));
const failed: string[] = [];
const provided: string[] = [];
for (const suite of values.suites.split(',')) {
  const binaries = await provideSuite(resolve(values.folder, suite), suite);
  provided.push(binaries);
  const major = /(\d+)\/bin$/.exec(binaries)?.[1] ?? '';
  console.log(`\nPostgreSQL ${major} (${suite})`);
  const code = await execute(
    join(ROOT, 'node_modules/.bin/vitest'),
    ['run', ...(positionals.length > 0 ? positionals : TESTS)],
    {
      ...process.env,
      CELLAR_TEST_POSTGRES_BIN: binaries,
      CELLAR_TEST_POSTGRES_MAJOR: major,
      PATH: [binaries, process.env['PATH']].join(delimiter),
    },
  );
  if (code !== 0) failed.push(major);
}
if (positionals.length === 0) {
  console.log('\nFrom every major to the newest');
  const env = { ...process.env, CELLAR_TEST_POSTGRES_BIN: provided.join(delimiter) };
  const code = await execute(join(ROOT, 'node_modules/.bin/vitest'), ['run', ACROSS_MAJORS], env);
  if (code !== 0) failed.push('(across majors)');
}
console.log(failed.length === 0 ? '\nAll majors passed.' : `\nFailed on PostgreSQL ${failed.join(', ')}.`);
process.exitCode = failed.length === 0 ? 0 : 1;

/** @returns the folder of the suite's PostgreSQL executables. */
async function provideSuite(folder: string, suite: string): Promise<string> {
  const ready = join(folder, 'cellar-ready');
  const done = await access(ready).then(
    () => true,
    () => false,
  );
  if (!done) {
    console.log(`Fetching Debian ${suite} …`);
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const fetched = await execute('debootstrap', [
      '--variant=minbase',
      '--include=postgresql',
      suite,
      folder,
      values.mirror,
    ]);
    if (fetched !== 0)
      throw new Error(`debootstrap of ${suite} failed; what it says is above and in ${folder}/debootstrap.`);
    await chmod(folder, 0o755);
  }
  const [major] = await readdir(join(folder, 'usr/lib/postgresql'));
  const binaries = join(folder, 'usr/lib/postgresql', major ?? '', 'bin');
  if (!done) {
    await useOwnLibraries(folder, binaries);
    await writeFile(ready, '');
  }
  return binaries;
}

async function useOwnLibraries(folder: string, binaries: string): Promise<void> {
  const architecture = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const libraries = [join(folder, 'usr/lib', architecture), join(folder, 'lib', architecture)];
  const loader = await findLoader(libraries);
  for (const name of await readdir(binaries)) {
    const path = join(binaries, name);
    if (!(await isElf(path))) continue;
    // RPATH and not RUNPATH: it must count for the libraries' own libraries too.
    const paths = ['--force-rpath', '--set-rpath', libraries.join(':')];
    if ((await execute('patchelf', ['--set-interpreter', loader, ...paths, path])) !== 0) {
      throw new Error(`patchelf could not change ${path}.`);
    }
  }
}

/** The dynamic loader's file itself: the usual link to it is absolute in some suites and would lead to the machine's own. */
async function findLoader(libraries: readonly string[]): Promise<string> {
  for (const folder of libraries) {
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      if (/^ld-(linux-[\w-]+\.so\.\d+|[\d.]+\.so)$/.test(name) && (await lstat(path)).isFile()) return path;
    }
  }
  throw new Error(`No dynamic loader was found in ${libraries.join(' or ')}.`);
}

async function isElf(path: string): Promise<boolean> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return buffer.toString('latin1') === '\x7fELF';
}

async function execute(command: string, args: readonly string[], env = process.env): Promise<number> {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], cwd: ROOT, env });
  return await new Promise((done, reject) => {
    child.once('error', reject).once('close', (code) => done(code ?? 1));
  });
}
