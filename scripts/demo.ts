/**
 * `npm run demo`: the main job on real data, on a PostgreSQL server of its own. A brewery's database is backed up encrypted, a day's
 * work changes it, it is backed up again, somebody drops a table, and it is restored and proven; then a table says what each
 * step cost. Everything lives in one temporary folder and is removed at the end. `-- --exit` ends without waiting for Ctrl-C.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, styleText } from 'node:util';
import { brewADay, type Cluster, createBrewery, installedServers, startCluster } from '@cellar/core/testing';

const CELLAR = fileURLToPath(new URL('../packages/cli/src/main.js', import.meta.url));
const DATABASE = 'brewery';

const { values: options } = parseArgs({
  options: {
    exit: { type: 'boolean', default: false },
    megabytes: { type: 'string', default: '100' },
  },
});

/** What the command line prints about a backup with `--json`, as far as the demo shows it. */
interface BackupResult {
  readonly id: string;
  readonly duration_seconds: number;
  readonly raw_bytes: number;
  readonly new_raw_bytes: number;
  readonly new_stored_bytes: number;
}

interface RestoreResult {
  readonly duration_seconds: number;
  readonly previous: { readonly database: string } | null;
  readonly tables: readonly { readonly restored_rows: number; readonly row_digest: string | null }[];
}

await main();

async function main(): Promise<void> {
  const megabytes = Number(options.megabytes);
  if (!Number.isInteger(megabytes) || megabytes < 1) {
    console.error('--megabytes takes a whole number of at least 1.');
    process.exitCode = 2;
    return;
  }
  if ((await installedServers()).length === 0) {
    console.error(
      'The demo starts a PostgreSQL server of its own, and there is none on this machine. Install one and start the demo again: ' +
        'on Debian or Ubuntu "apt install postgresql", on Fedora "dnf install postgresql-server", on macOS "brew install postgresql".',
    );
    process.exitCode = 1;
    return;
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  const folder = await mkdtemp(join(tmpdir(), 'cellar-demo-'));
  try {
    await using cluster = await step('A PostgreSQL server of its own', startCluster);
    await show(cluster, folder, megabytes, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    console.log('\nStopped.');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function show(cluster: Cluster, folder: string, megabytes: number, signal: AbortSignal): Promise<void> {
  await cluster.createDatabase(DATABASE);
  const url = cluster.url(DATABASE);
  await step(`A brewery's database of ${megabytes} MB`, () => createBrewery(url, { megabytes }, signal));

  const repository = join(folder, 'repository');
  const passphraseFile = join(folder, 'passphrase');
  await writeFile(passphraseFile, `${randomBytes(16).toString('base64url')}\n`, { mode: 0o600 });
  const environment = { CELLAR_REPO: repository, CELLAR_PASSPHRASE_FILE: passphraseFile, DATABASE_URL: url };
  const cellar = <Answer>(...args: readonly string[]) => runCellar<Answer>(args, environment, signal);

  await cellar('init', '--encrypt');
  const first = await cellar<BackupResult>('backup', '--description', 'First');
  console.log(outcome(first));
  console.log('');
  await step('A day of brewing: 2 % more rows, 1 % changed', () => brewADay(url, signal));
  const second = await cellar<BackupResult>('backup', '--description', 'After a day of brewing');
  console.log(outcome(second));
  console.log('');
  await step('Somebody drops the events table', () => cluster.query('DROP TABLE events CASCADE', DATABASE));
  const restored = await cellar<RestoreResult>('restore', 'latest', '--to', 'env:DATABASE_URL', '--prove', '--yes');

  console.log(`\n${costs(first, second, restored)}\n`);
  if (options.exit || !process.stdin.isTTY || !process.stdout.isTTY) return;
  console.log(whatToTry(environment));
  // A wait for a signal alone would not keep the process alive. A timer holds 24 days at most.
  await delay(2 ** 31 - 1, undefined, { signal }).catch(() => undefined);
  console.log('\nStopping the server and removing everything.');
}

/** Runs work that is not cellar's own, and says how long it took. */
async function step<Answer>(title: string, work: () => Promise<Answer>): Promise<Answer> {
  const startedAt = performance.now();
  const answer = await work();
  console.log(
    `${styleText('cyan', '·')} ${title} ${styleText('dim', `(${seconds((performance.now() - startedAt) / 1000)})`)}`,
  );
  return answer;
}

/** Runs the real command line, shown as it would be typed, with its progress on stderr; returns what it prints for programs. */
async function runCellar<Answer>(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Answer> {
  signal.throwIfAborted();
  const shown = args.map((arg) => (/^[\w:./-]+$/.test(arg) ? arg : `"${arg}"`)).join(' ');
  console.log(`\n${styleText('bold', `$ cellar ${shown}`)}`);
  const child = spawn(process.execPath, [CELLAR, ...args, '--json'], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Ctrl-C on a terminal reaches the child as well; a signal sent to this process alone does not.
  const forward = () => child.kill('SIGTERM');
  signal.addEventListener('abort', forward, { once: true });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  signal.removeEventListener('abort', forward);
  signal.throwIfAborted();
  if (code !== 0) throw new Error(`cellar ${args[0]} ended with exit code ${code}.`);
  return JSON.parse(output) as Answer;
}

function outcome(backup: BackupResult): string {
  const { duration_seconds: took, raw_bytes: raw, new_raw_bytes: fresh, new_stored_bytes: stored } = backup;
  return `  ${megabytes(raw)} read in ${seconds(took)}; ${megabytes(fresh)} were new, and take ${megabytes(stored)} encrypted.`;
}

/** The table that shows what each step cost and saved. */
function costs(first: BackupResult, second: BackupResult, restored: RestoreResult): string {
  const rows = restored.tables.reduce((sum, table) => sum + table.restored_rows, 0);
  const proven = restored.tables.filter((table) => table.row_digest !== null).length;
  const lines = [
    ['', 'time', 'backed up', 'of it new', 'stored', 'stored / backed up'],
    ...[['first backup', first] as const, ['second backup', second] as const].map(([name, backup]) => [
      name,
      seconds(backup.duration_seconds),
      megabytes(backup.raw_bytes),
      megabytes(backup.new_raw_bytes),
      megabytes(backup.new_stored_bytes),
      `${((100 * backup.new_stored_bytes) / backup.raw_bytes).toFixed(1)} %`,
    ]),
    ['restore with proof', seconds(restored.duration_seconds), megabytes(second.raw_bytes), '', '', ''],
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  const table = lines.map((line, row) => {
    const text = line.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    const joined = text.join('   ').trimEnd();
    return row === 0 ? styleText('bold', joined) : joined;
  });
  const count = rows.toLocaleString('en-US');
  return [
    ...table,
    '',
    `${styleText('green', 'Proven:')} all ${count} rows of ${proven} tables are the rows that were backed up. The dropped table is back.`,
    ...(restored.previous === null ? [] : [`The database as it was before is kept as ${restored.previous.database}.`]),
  ].join('\n');
}

function whatToTry(environment: Readonly<Record<string, string>>): string {
  const exports = Object.entries(environment).map(([name, value]) => `  export ${name}='${value}'`);
  return [
    styleText('bold', 'It is all still there. In another terminal, in this folder:'),
    ...exports,
    '  npx cellar list',
    '  npx cellar show latest',
    '  npx cellar verify --read-data',
    '  npx cellar export latest --as sql | head -50',
    '  npx cellar backup && npx cellar list',
    '  npx cellar cleanup --keep-last 2 --dry-run',
    '',
    `Ctrl-C stops the server and removes everything.`,
  ].join('\n');
}

function seconds(count: number): string {
  return `${count.toFixed(1)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
