/**
 * The definitions of a backup, in the order in which a restore puts them back, by pg_restore from small archives without data:
 *
 *   pre-data ─▶ (rows) ─▶ data: sequences, large objects' metadata ─▶ (large objects' contents) ─▶ post-data, parallel
 *            ─▶ privileges ─▶ materialized views ─▶ event triggers
 *
 * Privileges come after the rows, as in pg_restore's own passes: an owner may have revoked his own right to insert. Materialized
 * views come after privileges, since their queries run with their owner's; event triggers come last, since REFRESH fires them.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archiveText, SECTION_DATA, SECTION_POST_DATA, SECTION_PRE_DATA, type TocEntry } from './archive.ts';
import { composeToc } from './archive-writer.ts';
import { toolEnvironment } from './connection.ts';
import { lockedTables } from './post-data-stages.ts';
import type { StoredArchive } from './stored-archive.ts';
import type { Target } from './target.ts';
import { runTool, startTool } from './tool-process.ts';
import { findTool, type Tool } from './tools.ts';

export const DEFINITION_PHASES = [
  'pre-data',
  'data',
  'post-data',
  'privileges',
  'materialized-views',
  'event-triggers',
] as const;
export type DefinitionPhase = (typeof DEFINITION_PHASES)[number];

/** The entries of each phase, in TOC order; data blocks' own entries are in none of them. */
export type DefinitionPlan = Readonly<Record<DefinitionPhase, readonly TocEntry[]>>;

/** Sorts a backup's entries (or the chosen ones) into phases. */
export function planDefinitions(
  stored: StoredArchive,
  isChosen: (entry: TocEntry) => boolean = () => true,
): DefinitionPlan {
  const plan: Record<DefinitionPhase, TocEntry[]> = {
    'pre-data': [],
    data: [],
    'post-data': [],
    privileges: [],
    'materialized-views': [],
    'event-triggers': [],
  };
  stored.toc.entries.forEach((entry, index) => {
    if (!isChosen(entry)) return;
    const phase = phaseOf(entry, stored.sections[index] ?? SECTION_PRE_DATA);
    if (phase !== undefined) plan[phase].push(entry);
  });
  return plan;
}

function phaseOf(entry: TocEntry, section: number): DefinitionPhase | undefined {
  const description = archiveText(entry.description);
  const tag = archiveText(entry.tag);
  switch (description) {
    case 'TABLE DATA':
    case 'BLOBS':
      return undefined;
    // The database's own properties are set by the restore itself: the entries name the database that was dumped.
    case 'DATABASE':
    case 'DATABASE PROPERTIES':
      return undefined;
    case 'ACL':
    case 'DEFAULT ACL':
      return tag.startsWith('DATABASE ') && entry.namespace === null && isOfDatabase(entry) ? undefined : 'privileges';
    case 'COMMENT':
    case 'SECURITY LABEL':
      if (tag.startsWith('DATABASE ') && isOfDatabase(entry)) return undefined;
      if (tag.startsWith('EVENT TRIGGER ')) return 'event-triggers';
      break;
    case 'MATERIALIZED VIEW DATA':
      return 'materialized-views';
    case 'EVENT TRIGGER':
      return 'event-triggers';
  }
  if (section === SECTION_DATA) return 'data';
  return section === SECTION_POST_DATA ? 'post-data' : 'pre-data';
}

function isOfDatabase(entry: TocEntry): boolean {
  return /\bON DATABASE\b/.test(archiveText(entry.definition));
}

/** ENCODING, STDSTRINGS, SEARCHPATH: without them every composed archive would be read wrongly. */
function specialEntries(stored: StoredArchive): readonly TocEntry[] {
  return stored.toc.entries.filter((entry) =>
    ['ENCODING', 'STDSTRINGS', 'SEARCHPATH'].includes(archiveText(entry.description)),
  );
}

export interface DefinitionOptions {
  readonly pgRestore: Tool;
  readonly serverMajor: number;
  readonly owners: 'keep' | 'drop';
  readonly privileges: 'keep' | 'drop';
  readonly jobs: number;
  /** For index builds: MiB per connection. */
  readonly maintenanceMemoryMb: number;
}

/** Runs one phase in the database of `target`; returns what pg_restore said. Throws `tool-failed` with its reason. */
export async function restoreDefinitions(
  target: Target,
  stored: StoredArchive,
  entries: readonly TocEntry[],
  options: DefinitionOptions,
  signal: AbortSignal,
): Promise<string> {
  if (!hasAnyWork(entries)) return '';
  if (isTooNew(options)) {
    await runByPsql(target, await definitionsSql(stored, entries, options, signal), options, signal);
    return '';
  }
  const parallel = options.jobs > 1;
  const unrestored = [...largeObjectGroups(stored, entries), ...(parallel ? lockedTables(stored, entries) : [])];
  await using file = await archiveFile(stored, entries, unrestored);
  const { stderr } = await runTool(
    {
      tool: options.pgRestore,
      args: [
        '--exit-on-error',
        '--no-password',
        ...ownershipArgs(options),
        ...(parallel ? [`--jobs=${options.jobs}`] : []),
        ...(unrestored.length > 0 ? [`--use-list=${file.list}`] : []),
        `--dbname=${conninfo(target.database)}`,
        file.path,
      ],
      env: sessionEnvironment(target, options),
      input: false,
      // An index may build for hours without a word; the caller watches the sessions instead.
      stallTimeoutMs: 0,
    },
    signal,
  );
  return stderr;
}

function sessionEnvironment(target: Target, options: DefinitionOptions): Readonly<Record<string, string>> {
  return {
    ...toolEnvironment(target),
    PGOPTIONS: [
      '-c bytea_output=hex',
      '-c default_transaction_read_only=off',
      '-c synchronous_commit=off',
      `-c maintenance_work_mem=${options.maintenanceMemoryMb}MB`,
      // pg_restore sets the other time limits to none by itself.
      ...(options.serverMajor >= 14 ? ['-c idle_session_timeout=0'] : []),
    ].join(' '),
  };
}

/**
 * From 17 on pg_restore sets `transaction_timeout`, an error to older servers. It is all there is where the right one is not installed,
 * or where the archive is of a newer major than the server.
 */
function isTooNew({ pgRestore, serverMajor }: Pick<DefinitionOptions, 'pgRestore' | 'serverMajor'>): boolean {
  return pgRestore.major >= 17 && serverMajor < 17;
}

/** One statement after the other on one connection: slower than pg_restore's parallel work, and the same otherwise. */
async function runByPsql(target: Target, sql: Buffer, options: DefinitionOptions, signal: AbortSignal): Promise<void> {
  await using psql = await startTool(
    {
      tool: await findTool('psql', options.serverMajor, signal),
      args: psqlScriptArguments(target.database),
      env: sessionEnvironment(target, options),
      input: true,
      stallTimeoutMs: 0,
    },
    signal,
  );
  await psql.write(sql);
  await psql.endInput();
  await psql.finish();
}

/** The phase as SQL text, in the dump's encoding, without psql's own commands. */
export async function definitionsSql(
  stored: StoredArchive,
  entries: readonly TocEntry[],
  options: Pick<DefinitionOptions, 'pgRestore' | 'serverMajor' | 'owners' | 'privileges'>,
  signal: AbortSignal,
): Promise<Buffer> {
  if (!hasAnyWork(entries)) return Buffer.alloc(0);
  const unrestored = largeObjectGroups(stored, entries);
  await using file = await archiveFile(stored, entries, unrestored);
  const { output } = await runTool(
    {
      tool: options.pgRestore,
      args: [
        '--exit-on-error',
        ...ownershipArgs(options),
        ...(unrestored.length > 0 ? [`--use-list=${file.list}`] : []),
        '--file=-',
        file.path,
      ],
      env: {},
      input: false,
      stallTimeoutMs: 0,
    },
    signal,
  );
  const script = withoutPsqlCommands(output);
  return isTooNew(options) ? withoutTransactionTimeout(script) : script;
}

function withoutTransactionTimeout(script: Buffer): Buffer {
  const line = Buffer.from('\nSET transaction_timeout = 0;\n', 'latin1');
  // Among the first lines; further on such text would be somebody's own.
  const start = script.subarray(0, 4096).indexOf(line);
  return start === -1 ? script : Buffer.concat([script.subarray(0, start), script.subarray(start + line.length - 1)]);
}

/**
 * BLOB METADATA entries of privileges among `entries`: from 17 on one entry grants on a group of large objects, whose oids pg_restore
 * reads from the group's own entry (IssueACLPerBlob in pg_backup_archiver.c).
 */
function largeObjectGroups(stored: StoredArchive, entries: readonly TocEntry[]): readonly TocEntry[] {
  const isGroups = (entry: TocEntry) => archiveText(entry.tag).startsWith('LARGE OBJECTS ');
  const needed = new Set(entries.filter(isGroups).flatMap(({ dependencies }) => dependencies.map(Number)));
  if (needed.size === 0) return [];
  const present = new Set(entries);
  return stored.toc.entries.filter((entry) => needed.has(entry.dumpId) && !present.has(entry));
}

function hasAnyWork(entries: readonly TocEntry[]): boolean {
  return entries.some((entry) => !['ENCODING', 'STDSTRINGS', 'SEARCHPATH'].includes(archiveText(entry.description)));
}

function ownershipArgs(options: Pick<DefinitionOptions, 'owners' | 'privileges'>): readonly string[] {
  return [
    ...(options.owners === 'drop' ? ['--no-owner'] : []),
    ...(options.privileges === 'drop' ? ['--no-privileges'] : []),
  ];
}

/** A database's name as a connection string: alone, a name with `=` or `://` in it would be taken for one. */
export function conninfo(database: string): string {
  return `dbname='${database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** A script from stdin, run to its first error, with nothing of the user's own settings. */
export function psqlScriptArguments(database: string): readonly string[] {
  return [
    '--no-psqlrc',
    '--quiet',
    '--no-password',
    '--set=ON_ERROR_STOP=1',
    '--output=/dev/null',
    `--dbname=${conninfo(database)}`,
    '--file=-',
  ];
}

/**
 * pg_restore brackets its script with `\restrict TOKEN` and `\unrestrict TOKEN`, on lines of their own at the beginning and the end
 * (PostgreSQL 13.22 to 18 and later): commands of psql, not SQL.
 */
function withoutPsqlCommands(script: Buffer): Buffer {
  const opening = /^((?:--[^\n]*\n|\n)*)\\restrict [A-Za-z0-9]+\n/.exec(script.toString('latin1', 0, 4096));
  if (opening === null) return script;
  const token = opening[0].trim().split(' ').at(-1) ?? '';
  const closing = script.lastIndexOf(Buffer.from(`\n\\unrestrict ${token}\n`, 'latin1'));
  return script.subarray(opening[0].length, closing === -1 ? script.length : closing + 1);
}

interface ArchiveFile extends AsyncDisposable {
  readonly path: string;
  /** A file for `--use-list`: what is to be restored, where the archive holds more for pg_restore to look at. */
  readonly list: string;
}

/** Definitions are the person's own: a folder and a file that nobody else may read, gone when disposed. */
async function archiveFile(
  stored: StoredArchive,
  entries: readonly TocEntry[],
  unrestored: readonly TocEntry[],
): Promise<ArchiveFile> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-restore-'));
  const remove = async () => await rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, 'definitions.dump');
    const list = join(folder, 'definitions.list');
    const held = new Set([...specialEntries(stored), ...unrestored, ...entries]);
    await writeFile(path, composeToc(stored.toc.header, [...held]), { mode: 0o600 });
    await writeFile(list, entries.map(({ dumpId }) => `${dumpId};\n`).join(''), { mode: 0o600 });
    return { path, list, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
