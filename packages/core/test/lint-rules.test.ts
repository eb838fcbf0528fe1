/** The dependency rules hold only if breaking them fails: each is broken here on purpose, in a small copy of the tree. */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

/** What the files import, so that imports lead somewhere. */
const LANDSCAPE: Readonly<Record<string, string>> = {
  'packages/core/src/index.ts': `export { openStorage } from './registry.ts';\nexport { STORAGE } from './storage/storage.ts';\n`,
  'packages/core/src/registry.ts': `import { LOCAL } from './storage/local/local-storage.ts';\n\nexport const openStorage = LOCAL;\n`,
  'packages/core/src/storage/storage.ts': `export const STORAGE = 1;\n`,
  'packages/core/src/storage/local/local-storage.ts': `import { STORAGE } from '../storage.ts';\n\nexport const LOCAL = STORAGE;\n`,
  'packages/core/src/engine/engine.ts': `export const ENGINE = 1;\n`,
  'packages/core/src/engine/postgres/postgres.ts': `export const POSTGRES = 1;\n`,
  'packages/core/src/chunker/chunker.ts': `export const CHUNKER = 1;\n`,
  'packages/core/src/retention/policy.ts': `export const POLICY = 1;\n`,
  'packages/core/src/repository/repository.ts': `import { STORAGE } from '../storage/storage.ts';\n\nexport const REPOSITORY = STORAGE;\n`,
  'packages/core/src/testing/index.ts': `export { CLUSTER } from './cluster.ts';\n`,
  'packages/core/src/testing/cluster.ts': `export const CLUSTER = process.env['PATH'];\n`,
  'packages/core/src/repository/repository.test.ts': `import { LOCAL } from '../storage/local/local-storage.ts';\n\nexport const TESTED = LOCAL;\n`,
  'packages/cli/src/environment.ts': `export const PASSPHRASE = process.env['CELLAR_PASSPHRASE'];\n`,
  'scripts/hello.ts': `console.log(process.env['HOME']);\n`,
};

const violation = (from: string, what = 'THING'): string =>
  `import { ${what} } from '${from}';\n\nexport const taken = ${what};\n`;

/** File, what it says, and the rule that must name it. */
const VIOLATIONS: readonly (readonly [file: string, text: string, rule: string])[] = [
  ['packages/core/src/engine/postgres/a.ts', violation('../../storage/storage.ts'), 'noRestrictedImports'],
  ['packages/core/src/engine/b.ts', violation('../chunker/chunker.ts'), 'noRestrictedImports'],
  ['packages/core/src/engine/c.ts', violation('../repository/repository.ts'), 'noRestrictedImports'],
  ['packages/core/src/engine/d.ts', violation('../retention/policy.ts'), 'noRestrictedImports'],
  ['packages/core/src/engine/e.ts', violation('../registry.ts'), 'noRestrictedImports'],
  [
    'packages/core/src/engine/f.ts',
    `import type { ENGINE } from '../storage/storage.ts';\n\nexport type Taken = typeof ENGINE;\n`,
    'noRestrictedImports',
  ],
  [
    'packages/core/src/engine/g.ts',
    `export const taken = await import('../storage/storage.ts');\n`,
    'noRestrictedImports',
  ],
  ['packages/core/src/chunker/a.ts', violation('../engine/engine.ts'), 'noRestrictedImports'],
  ['packages/core/src/chunker/b.ts', violation('../repository/repository.ts'), 'noRestrictedImports'],
  ['packages/core/src/storage/local/a.ts', violation('../../repository/repository.ts'), 'noRestrictedImports'],
  ['packages/core/src/storage/b.ts', violation('../engine/engine.ts'), 'noRestrictedImports'],
  ['packages/core/src/retention/a.ts', violation('../storage/storage.ts'), 'noRestrictedImports'],
  ['packages/core/src/retention/b.ts', violation('../repository/repository.ts'), 'noRestrictedImports'],
  ['packages/core/src/repository/a.ts', violation('../storage/local/local-storage.ts'), 'noRestrictedImports'],
  ['packages/core/src/repository/b.ts', violation('../engine/postgres/postgres.ts'), 'noRestrictedImports'],
  ['packages/core/src/repository/c.ts', violation('../testing/cluster.ts'), 'noRestrictedImports'],
  ['packages/core/src/backup.ts', violation('./engine/postgres/postgres.ts'), 'noRestrictedImports'],
  ['packages/core/src/restore.ts', violation('./storage/local/local-storage.ts'), 'noRestrictedImports'],
  ['packages/core/src/pipeline/a.ts', violation('../storage/memory/memory-storage.ts'), 'noRestrictedImports'],
  ['packages/core/src/drill.ts', violation('@cellar/contract'), 'noRestrictedImports'],
  ['packages/core/src/copy.ts', violation('../../cli/src/main.js'), 'noRestrictedImports'],
  ['packages/cli/src/a.ts', violation('../../core/src/registry.ts'), 'noRestrictedImports'],
  ['packages/cli/src/b.ts', violation('@cellar/server'), 'noRestrictedImports'],
  ['packages/cli/src/c.ts', violation('@cellar/core/testing'), 'noRestrictedImports'],
  ['packages/server/src/a.ts', violation('@cellar/cli'), 'noRestrictedImports'],
  ['packages/contract/src/a.ts', violation('@cellar/core'), 'noRestrictedImports'],
  ['packages/web/src/a.ts', violation('@cellar/core'), 'noRestrictedImports'],
  ['packages/core/src/undeclared.ts', violation('left-pad'), 'noUndeclaredDependencies'],
  [
    'packages/core/src/circle-a.ts',
    `import { b } from './circle-b.ts';\n\nexport const a = (): number => b();\n`,
    'noImportCycles',
  ],
  [
    'packages/core/src/circle-b.ts',
    `import { a } from './circle-a.ts';\n\nexport const b = (): number => a();\n`,
    'noImportCycles',
  ],
  [
    'packages/core/src/types-a.ts',
    `import type { B } from './types-b.ts';\n\nexport type A = { b: B };\n`,
    'noImportCycles',
  ],
  [
    'packages/core/src/types-b.ts',
    `import type { A } from './types-a.ts';\n\nexport type B = { a: A };\n`,
    'noImportCycles',
  ],
  ['packages/core/src/environment.ts', `export const home = process.env['HOME'];\n`, 'noProcessEnv'],
  ['packages/cli/src/other.ts', `export const home = process.env['HOME'];\n`, 'noProcessEnv'],
  ['packages/core/src/repository/index.ts', `export { REPOSITORY } from './repository.ts';\n`, 'noBarrelFile'],
  [
    'packages/core/src/floating.ts',
    `async function work(): Promise<void> {}\n\nexport function start(): void {\n  work();\n}\n`,
    'noFloatingPromises',
  ],
  ['packages/core/src/default.ts', `export default 1;\n`, 'noDefaultExport'],
  ['packages/core/src/any.ts', `export const x: any = 1;\n`, 'noExplicitAny'],
  ['packages/core/src/console.ts', `console.log('x');\n`, 'noConsole'],
  ['packages/core/src/CamelCase.ts', `export const x = 1;\n`, 'useFilenamingConvention'],
  [
    'packages/core/src/skipped.test.ts',
    `import { it } from 'vitest';\n\nit.skip('does nothing', () => {});\n`,
    'noSkippedTests',
  ],
];

let folder: string;

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'cellar-lint-')));
  const manifests = ['core', 'cli', 'server', 'contract', 'web'].map((name) => `packages/${name}/package.json`);
  for (const name of ['biome.json', 'package.json', '.gitignore', ...manifests]) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await copyFile(join(ROOT, name), join(folder, name));
  }
  await write(Object.entries(LANDSCAPE));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function write(files: Iterable<readonly [name: string, text: string, ...unknown[]]>): Promise<void> {
  for (const [name, text] of files) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}

/** Runs Biome over the copy: its exit code, and its findings as `file rule`. */
async function lint(): Promise<{
  readonly code: number;
  readonly findings: ReadonlySet<string>;
  readonly text: string;
}> {
  const done = await run(
    join(ROOT, 'node_modules/.bin/biome'),
    ['lint', '--max-diagnostics=none', '--reporter=github', '.'],
    {
      cwd: folder,
      maxBuffer: 16 * 1024 * 1024,
    },
  ).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
  );
  const findings = new Set<string>();
  for (const line of done.stdout.split('\n')) {
    const match = /title=lint\/\w+\/(\w+),file=([^,]+),/.exec(line);
    if (match) findings.add(`${relative(folder, match[2] ?? '')} ${match[1]}`);
  }
  return { code: done.code, findings, text: done.stdout };
}

describe('the lint rules', () => {
  it('let a tree pass that keeps to the architecture', async () => {
    const { code, text } = await lint();
    expect(text).toBe('');
    expect(code).toBe(0);
  });

  it('fail each violation by name', async () => {
    await write(VIOLATIONS);
    const { code, findings } = await lint();
    expect(code).not.toBe(0);
    const missed = VIOLATIONS.filter(([file, , rule]) => !findings.has(`${file} ${rule}`)).map(
      ([file, , rule]) => `${file} ${rule}`,
    );
    expect(missed).toEqual([]);
  });
});
