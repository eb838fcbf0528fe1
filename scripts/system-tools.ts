/**
 * The system tools that tests and the demo stand on: a PostgreSQL server with its client tools, and the stock tools that what
 * Cellar writes is opened with. They are installed where that is possible without asking: on Debian and Ubuntu, as root or with a
 * sudo that wants no password.
 */
import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { installedServers } from '../packages/core/src/testing/postgres-cluster.ts';

export interface SystemTool {
  readonly command: string;
  readonly debianPackage: string;
}

const SERVER: SystemTool = { command: 'postgres', debianPackage: 'postgresql' };

const ON_PATH: readonly SystemTool[] = [
  { command: 'psql', debianPackage: 'postgresql-client' },
  { command: 'pg_dump', debianPackage: 'postgresql-client' },
  { command: 'pg_restore', debianPackage: 'postgresql-client' },
  { command: 'gzip', debianPackage: 'gzip' },
  { command: 'zstd', debianPackage: 'zstd' },
  { command: 'age', debianPackage: 'age' },
];

/** @param onlyServer leaves out what only tests need. */
export async function missingTools({ onlyServer = false } = {}): Promise<SystemTool[]> {
  const missing: SystemTool[] = [];
  if ((await installedServers()).length === 0) missing.push(SERVER);
  return onlyServer ? missing : [...missing, ...(await toolsNotOnPath(ON_PATH))];
}

export async function toolsNotOnPath(tools: readonly SystemTool[]): Promise<SystemTool[]> {
  const found = await Promise.all(tools.map((tool) => isOnPath(tool.command)));
  return tools.filter((_, index) => !found[index]);
}

/** Installs what is missing, if it may. @returns the packages it installed; what is still missing is for the caller to see. */
export async function provideTools(missing: readonly SystemTool[]): Promise<string[]> {
  if (missing.length === 0 || !(await isOnPath('apt-get'))) return [];
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '--non-interactive'];
  if (asRoot.length > 0 && (!(await isOnPath('sudo')) || !(await succeeds([...asRoot, 'true'])))) return [];
  const packages = [...new Set(missing.map((tool) => tool.debianPackage))];
  console.log(`Installing ${packages.join(', ')} …`);
  const apt = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '--quiet=2', '--option=Dpkg::Use-Pty=0'];
  const install = [...apt, 'install', '--yes', '--no-install-recommends', ...packages];
  // Fresh machines have no package lists, and stale lists name versions that are gone.
  const done = (await succeeds([...apt, 'update'])) && (await succeeds(install));
  return done ? packages : [];
}

async function isOnPath(command: string): Promise<boolean> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const found = await access(join(folder, command), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

async function succeeds([command = '', ...args]: readonly string[]): Promise<boolean> {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  return await new Promise((resolve) => {
    child.once('error', () => resolve(false));
    child.once('close', (code) => resolve(code === 0));
  });
}
