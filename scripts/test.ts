/**
 * `npm test`: everything that is checked, each check a part of its own: system tools, types, lint, and all tests. The parts run
 * side by side as far as that helps; each part's output is printed when it ends, and the last line is `N passed, N failed`.
 * A part that cannot run, or crashes, counts as failed; without the system tools nothing else is tried.
 *
 * Arguments are handed on to vitest: `npm test -- packages/core/src/storage` runs the tests of one folder (and no types or lint).
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingTools, provideTools } from './system-tools.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

const LINT = ['check', '--error-on-warnings', '--max-diagnostics=50', '.'];

interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

const filters = process.argv.slice(2);
const started = Date.now();
const outcomes: Outcome[] = [];

const tools = await systemTools();
outcomes.push(tools);
if (tools.failed === 0) {
  // Types and lint take seconds: they are through before the machine's cores are wanted for the tests.
  if (filters.length === 0) {
    outcomes.push(...(await Promise.all([check('types', 'tsc', ['--noEmit']), check('lint', 'biome', LINT)])));
  }
  outcomes.push(await tests());
}

const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed, 0);
console.log(`\nin ${Math.round((Date.now() - started) / 1000)} s`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
process.stdout.write(`${passed} passed, ${failed} failed\n`);

async function systemTools(): Promise<Outcome> {
  const installed = await provideTools(await missingTools());
  const missing = await missingTools();
  if (missing.length === 0) {
    say('system tools', true, installed.length === 0 ? '' : `installed ${installed.join(', ')}`);
    return { passed: 1, failed: 0 };
  }
  const commands = missing.map(({ command }) => command).join(', ');
  const packages = [...new Set(missing.map((tool) => tool.debianPackage))].join(' ');
  say('system tools', false, `not found: ${commands}\nOn Debian or Ubuntu: apt-get install ${packages}`);
  return { passed: 0, failed: 1 };
}

async function check(title: string, tool: string, args: readonly string[]): Promise<Outcome> {
  const { code, output } = await runTool(tool, args, false);
  say(title, code === 0, code === 0 ? '' : output.trimEnd());
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** Vitest's own report says how many tests passed; its exit code covers what no test counts: a crash, an error outside of tests. */
async function tests(): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-tests-'));
  try {
    const report = join(folder, 'report.json');
    const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...filters];
    const { code } = await runTool('vitest', args, true);
    const counted = countTests(await readFile(report, 'utf8').catch(() => ''));
    const crashed = code !== 0 && (counted === undefined || counted.failed === 0);
    const outcome = counted ?? { passed: 0, failed: 0 };
    if (crashed) console.log(`\ntests: vitest ended with exit code ${code} though no test failed`);
    return crashed ? { passed: outcome.passed, failed: outcome.failed + 1 } : outcome;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Tests by outcome; a test that was not run is a failure, and so is a file that could not be loaded. */
function countTests(report: string): Outcome | undefined {
  if (report === '') return undefined;
  const { testResults } = JSON.parse(report) as {
    testResults: readonly { status: string; assertionResults: readonly { status: string }[] }[];
  };
  let passed = 0;
  let failed = 0;
  for (const file of testResults) {
    const good = file.assertionResults.filter((test) => test.status === 'passed').length;
    const bad = file.assertionResults.length - good;
    passed += good;
    failed += bad === 0 && file.status !== 'passed' ? 1 : bad;
  }
  return { passed, failed };
}

function say(title: string, good: boolean, details: string): void {
  console.log(`${good ? '✓' : '✗'} ${title}${details === '' ? '' : `\n${details}`}`);
}

/** Runs a tool of the workspace. With `live` its output is shown as it comes, else it is collected. */
async function runTool(
  tool: string,
  args: readonly string[],
  live: boolean,
): Promise<{ readonly code: number; readonly output: string }> {
  const child = spawn(join(ROOT, 'node_modules/.bin', tool), args, {
    cwd: ROOT,
    stdio: ['ignore', live ? 'inherit' : 'pipe', live ? 'inherit' : 'pipe'],
  });
  let output = '';
  child.stdout?.on('data', (part: Buffer) => {
    output += part.toString();
  });
  child.stderr?.on('data', (part: Buffer) => {
    output += part.toString();
  });
  return await new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: 1, output: `${tool} could not be started: ${error.message}` }));
    child.once('close', (code, signal) => {
      resolve({ code: code ?? 1, output: signal === null ? output : `${output}\n${tool} was ended by ${signal}` });
    });
  });
}
