/**
 * Finds PostgreSQL's own client programs. A client must be at least as new as the server (pg_dump refuses a newer server), and
 * for restores as old as possible too (a newer one emits settings that an older server refuses): the lowest major that is
 * new enough is taken. Looked for in Debian's folder of every major, then in PATH.
 */
import { execFile } from 'node:child_process';
import { access, constants, readdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { CellarError, throwIfAborted } from '../../errors.ts';

export type ToolName = 'pg_dump' | 'pg_restore' | 'psql' | 'pg_dumpall';

export interface Tool {
  readonly name: ToolName;
  readonly path: string;
  readonly major: number;
  /** `15.18`. */
  readonly version: string;
}

export interface ToolPlaces {
  /** Holds a folder per major, with the programs in `bin`. */
  readonly versionsFolder: string;
  /** Folders as in PATH. */
  readonly searchPath: readonly string[];
}

/** The surroundings' own settings (PGOPTIONS, PGSERVICE, language) must not change what a tool does: only these pass. Passwords as password-file.ts finds them. */
const PASSED_ON = ['PATH', 'HOME', 'PGPASSWORD', 'PGPASSFILE', 'TMPDIR', 'KRB5CCNAME', 'KRB5_CONFIG'] as const;

/** What a tool's environment starts from; messages in English, so that they can be recognised. */
export function toolBaseEnvironment(): Readonly<Record<string, string>> {
  const surroundings = processEnvironment();
  const passed = PASSED_ON.flatMap((name) => {
    const value = surroundings[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { HOME: homedir(), ...Object.fromEntries(passed), LC_ALL: 'C' };
}

export function defaultToolPlaces(): ToolPlaces {
  const path = processEnvironment()['PATH'] ?? '';
  return { versionsFolder: '/usr/lib/postgresql', searchPath: path.split(delimiter).filter((folder) => folder !== '') };
}

/**
 * The program's lowest major that is at least `minimumMajor`. Throws `tool-missing`, naming the package to install.
 */
export async function findTool(
  name: ToolName,
  minimumMajor: number,
  signal: AbortSignal,
  places: ToolPlaces = defaultToolPlaces(),
): Promise<Tool> {
  const found: Tool[] = [];
  for (const folder of [...(await versionFolders(places.versionsFolder)), ...places.searchPath]) {
    throwIfAborted(signal);
    const tool = await toolAt(name, join(folder, name), signal);
    if (tool !== undefined) found.push(tool);
  }
  // The sort is stable: of one major, the place that was looked at first.
  const best = found.filter((tool) => tool.major >= minimumMajor).sort((a, b) => a.major - b.major)[0];
  if (best !== undefined) return best;
  const newest = found.sort((a, b) => b.major - a.major)[0];
  const what =
    newest === undefined
      ? `${name} is not installed on this machine.`
      : `${name} of PostgreSQL ${newest.major} is too old for a server of PostgreSQL ${minimumMajor}.`;
  throw new CellarError('tool-missing', what, {
    hint: `Install the package postgresql-client-${minimumMajor} or newer (Debian and Ubuntu: apt.postgresql.org has every version; Alpine: postgresql${minimumMajor}-client).`,
    details: { tool: name, minimumMajor },
  });
}

async function versionFolders(folder: string): Promise<readonly string[]> {
  try {
    const majors = (await readdir(folder)).filter((name) => /^\d+$/.test(name));
    return majors.sort((a, b) => Number(a) - Number(b)).map((major) => join(folder, major, 'bin'));
  } catch {
    return [];
  }
}

async function toolAt(name: ToolName, path: string, signal: AbortSignal): Promise<Tool | undefined> {
  try {
    await access(path, constants.X_OK);
    const { stdout } = await promisify(execFile)(path, ['--version'], {
      signal,
      timeout: 10_000,
      env: toolBaseEnvironment(),
    });
    const version = /\(PostgreSQL\)\s+((\d+)[.\w]*)/.exec(stdout);
    if (version === null) return undefined;
    return { name, path, major: Number(version[2]), version: version[1] ?? '' };
  } catch {
    throwIfAborted(signal);
    return undefined;
  }
}

/** Where programs are, and where the person's home is, is known from the surroundings alone; nothing is configured by them here. */
function processEnvironment(): Readonly<Record<string, string | undefined>> {
  // biome-ignore lint/style/noProcessEnv: see above
  return process.env;
}
