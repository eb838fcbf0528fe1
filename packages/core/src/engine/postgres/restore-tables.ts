/**
 * Restores chosen tables. Into an existing database in one transaction, all or nothing: mode `in-place` replaces tables of the same
 * name, mode `new` refuses them. Into a database that does not exist (mode `new`), beside, with all that the tables need.
 * Into another schema: see into-schema.ts.
 */
import { CellarError, isCellarError } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { RestoreOptions, RestoreReport, TableName } from '../engine.ts';
import type { TocEntry } from './archive.ts';
import { type Connection, connect } from './connection.ts';
import { planDefinitions } from './definitions.ts';
import { analyze, definitionOptions, fillDatabase } from './fill-database.ts';
import { moveIntoSchema } from './into-schema.ts';
import { inOneTransaction } from './one-transaction.ts';
import { Phases } from './phases.ts';
import { besideAndSwap } from './restore-beside.ts';
import { replaceRows } from './restore-data.ts';
import { isTable, kind, type Selection, selectTables } from './restore-selection.ts';
import { createClauses } from './scratch.ts';
import { sourceProperties } from './source-properties.ts';
import { splitAttachments } from './split-attachments.ts';
import { type StoredArchive, storedText } from './stored-archive.ts';
import type { Target } from './target.ts';
import { checkRoles, checkTablespaces, rolesOfEntries } from './target-checks.ts';
import { checkSequencesAndObjects, quotedName, showName } from './verify-restored.ts';

export async function restoreTables(
  target: Target,
  archive: StoredArchive,
  names: readonly TableName[],
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const stored = splitAttachments(archive);
  const selection = selectTables(stored, names);
  if (!(await exists(target, signal))) {
    if (options.mode !== 'new' || options.intoSchema !== undefined) {
      throw new CellarError('not-found', `There is no database ${target.database} to restore tables into.`, {
        hint: 'Create it first; or use mode new, without another schema, to have it made with these tables alone.',
      });
    }
    return await intoNewDatabase(target, stored, selection, options, onProgress, signal);
  }
  const phases = new Phases(onProgress);
  if (options.intoSchema === undefined) return await intoExisting(target, stored, selection, options, phases, signal);
  const moved = splitAttachments(await moveIntoSchema(target, stored, selection, options.intoSchema, phases, signal));
  return await intoExisting(target, moved, selectTables(moved, movedNames(moved)), options, phases, signal);
}

function movedNames(moved: StoredArchive): readonly TableName[] {
  return moved.toc.entries.filter(isTable).map((entry) => tableName(moved, entry));
}

async function exists(target: Target, signal: AbortSignal): Promise<boolean> {
  try {
    await using _connection = await connect(target, signal);
    return true;
  } catch (error) {
    if (isCellarError(error, 'not-found')) return false;
    throw error;
  }
}

async function intoNewDatabase(
  target: Target,
  stored: StoredArchive,
  selection: Selection,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const entries = new Set([...selection.entries, ...selection.needed]);
  const report = await besideAndSwap(
    target,
    {
      contents: stored.contents,
      options,
      onProgress,
      properties: sourceProperties(stored.contents.source),
      createClauses: (major) => createClauses(stored, major),
      prepare: async (admin) => {
        await checkRoles(admin, rolesOfEntries(stored, [...entries], options));
        await checkTablespaces(admin, stored, [...entries]);
        return [];
      },
      fill: async (scratch, phases, own) => {
        const chosen = { isChosen: (entry: TocEntry) => entries.has(entry), rows: selection.rows, largeObjects: false };
        return await fillDatabase(scratch, stored, options, phases, own, chosen);
      },
    },
    signal,
  );
  return {
    ...report,
    warnings: [
      ...report.warnings,
      ...leftOut(
        stored,
        selection.outwardKeys.map(({ key }) => key),
      ),
    ],
  };
}

async function intoExisting(
  target: Target,
  stored: StoredArchive,
  selection: Selection,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const found = await phases.run('check', async () => await lookAt(target, stored, selection, options, signal));
  const report = (tables: RestoreReport['tables'], warnings: readonly string[]): RestoreReport => ({
    mode: options.mode,
    database: target.database,
    tables,
    phases: phases.done,
    warnings: [...found.warnings, ...warnings],
  });
  if (options.content === 'data') {
    const tables = await replaceRows(target, stored, selection.rows, false, options, phases, signal, (entry) =>
      selection.entries.has(entry),
    );
    return report(
      tables,
      await analyze(
        target,
        options.jobs,
        signal,
        selection.rows.map(({ table }) => table),
      ),
    );
  }
  const withRows = options.content === 'all';
  const plan = planDefinitions(
    stored,
    (entry) => found.entries.has(entry) && (withRows || kind(entry) !== 'SEQUENCE SET'),
  );
  const definition = await definitionOptions(target, stored, options, signal);
  const tables = await inOneTransaction(target, stored, options, signal, async (transaction) => {
    if (found.present.length > 0) await drop(transaction.connection, found.present);
    if (options.intoSchema !== undefined) {
      const schema = quotedIdentifier(options.intoSchema);
      await transaction.connection.query(
        `CREATE SCHEMA IF NOT EXISTS ${schema}`,
        `create the schema ${options.intoSchema}`,
      );
    }
    await phases.run('pre-data', async () => await transaction.define(plan['pre-data'], definition));
    if (withRows) await phases.run('load', async () => await transaction.load(selection.rows, phases));
    await phases.run('data', async () => await transaction.define(plan.data, definition));
    await phases.run('post-data', async () => await transaction.define(plan['post-data'], definition));
    await phases.run('privileges', async () => await transaction.define(plan.privileges, definition));
    // After its indexes: ATTACH takes those that fit the parent's, and would make them itself if they were not there yet.
    await transaction.define(found.attachments, definition);
    if (!withRows) return [];
    return await phases.run('compare', async () => {
      const restored = await transaction.compare(selection.rows, phases);
      const included = new Set(plan.data);
      const isIncluded = (index: number) => stored.toc.entries.some((entry, at) => at === index && included.has(entry));
      await checkSequencesAndObjects(transaction.connection, stored, isIncluded, undefined);
      return restored;
    });
  });
  return report(
    tables,
    await analyze(
      target,
      options.jobs,
      signal,
      selection.rows.map(({ table }) => table),
    ),
  );
}

interface Found {
  /** Quoted names of chosen tables that are in the database already. */
  readonly present: readonly string[];
  /** All to be restored: the tables' own, and what they need that is not there. */
  readonly entries: ReadonlySet<TocEntry>;
  /** Of partitions to parents that were not chosen and are there. */
  readonly attachments: readonly TocEntry[];
  readonly warnings: readonly string[];
}

/** Before anything is touched: what is there, what is missing, who owns. */
async function lookAt(
  target: Target,
  stored: StoredArchive,
  selection: Selection,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<Found> {
  await using connection = await connect(target, signal);
  const decoded = namesOf(stored, selection.tableEntries);
  const present: string[] = [];
  for (const name of decoded)
    if (await isThere(connection, 'to_regclass', quotedName(name))) present.push(quotedName(name));
  if (present.length > 0 && options.mode === 'new') {
    throw new CellarError('conflict', `The database has these tables already: ${present.slice(0, 10).join(', ')}.`, {
      hint: 'Use mode in-place to replace them, or restore into another schema.',
      details: { tables: present },
    });
  }
  if (options.content === 'data') return { present, entries: selection.entries, attachments: [], warnings: [] };
  const entries = new Set(selection.entries);
  for (const entry of selection.needed) {
    if (await isMissing(connection, stored, entry)) entries.add(entry);
  }
  const left: TocEntry[] = [];
  for (const { key, to } of selection.outwardKeys) {
    const there = await isThere(connection, 'to_regclass', quotedName(tableName(stored, to)));
    if (there) entries.add(key);
    else left.push(key);
  }
  const attachments: TocEntry[] = [];
  for (const { attachment, to } of selection.outwardAttachments) {
    if (await isThere(connection, 'to_regclass', quotedName(tableName(stored, to)))) attachments.push(attachment);
  }
  for (const entry of stored.toc.entries) {
    if (kind(entry) !== 'PUBLICATION TABLE' || !entry.dependencies.some((id) => selection.tables.has(Number(id))))
      continue;
    const publication = stored.toc.entries.find(
      (other) => kind(other) === 'PUBLICATION' && entry.dependencies.some((id) => Number(id) === other.dumpId),
    );
    if (publication !== undefined && !(await isMissing(connection, stored, publication))) entries.add(entry);
  }
  await checkRoles(connection, rolesOfEntries(stored, [...entries], options));
  await checkTablespaces(connection, stored, [...entries]);
  return { present, entries, attachments, warnings: leftOut(stored, left) };
}

/** Decoded names where the manifest has them: the archive's own are in the dump's encoding. */
function namesOf(stored: StoredArchive, entries: readonly TocEntry[]): readonly TableName[] {
  return entries.map(
    (entry) => stored.rows.find(({ tableEntry }) => tableEntry === entry)?.table ?? tableName(stored, entry),
  );
}

function tableName(stored: StoredArchive, entry: TocEntry): TableName {
  return { schema: storedText(stored, entry.namespace), name: storedText(stored, entry.tag) };
}

/** Kinds of definitions whose presence can be asked for; others are taken to be there, and the server says so if not. */
async function isMissing(connection: Connection, stored: StoredArchive, entry: TocEntry): Promise<boolean> {
  const { schema, name: tag } = tableName(stored, entry);
  switch (kind(entry)) {
    case 'SCHEMA':
      return !(await isThere(connection, 'to_regnamespace', quotedIdentifier(tag)));
    case 'TYPE':
    case 'DOMAIN':
      return !(await isThere(connection, 'to_regtype', quotedName(tableName(stored, entry))));
    case 'TABLE':
    case 'SEQUENCE':
    case 'VIEW':
      return !(await isThere(connection, 'to_regclass', quotedName(tableName(stored, entry))));
    case 'FUNCTION':
    case 'PROCEDURE': {
      const open = tag.lastIndexOf('(', tag.length);
      const name = quotedName({ schema, name: tag.slice(0, tag.indexOf('(') === open ? open : tag.indexOf('(')) });
      return !(await isThere(connection, 'to_regprocedure', name + tag.slice(tag.indexOf('('))));
    }
    case 'EXTENSION': {
      const rows = await connection.query('SELECT 1 FROM pg_extension WHERE extname = $1', 'look for an extension', [
        tag,
      ]);
      return rows.length === 0;
    }
    case 'PUBLICATION': {
      const rows = await connection.query('SELECT 1 FROM pg_publication WHERE pubname = $1', 'look for a publication', [
        tag,
      ]);
      return rows.length === 0;
    }
    default:
      return false;
  }
}

async function isThere(connection: Connection, lookup: string, name: string): Promise<boolean> {
  const [row] = await connection.query(`SELECT ${lookup}($1) IS NOT NULL AS there`, `look for ${name}`, [name]);
  return row?.['there'] === 't';
}

function quotedIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** No CASCADE: what hangs on the tables and is in no backup of theirs must not go with them. */
async function drop(connection: Connection, names: readonly string[]): Promise<void> {
  try {
    await connection.query(`DROP TABLE ${names.join(', ')}`, 'replace the tables');
  } catch (error) {
    // 2BP01: dependent objects still exist; the server's detail names them.
    if (!isCellarError(error) || error.details['sqlState'] !== '2BP01') throw error;
    throw new CellarError(
      'conflict',
      `The tables cannot be replaced, because other objects depend on them: ${error.message}`,
      {
        hint: 'Restore those tables too, drop what depends on them, restore into another schema, or replace only the rows (content data).',
        cause: error,
      },
    );
  }
}

function leftOut(stored: StoredArchive, keys: readonly TocEntry[]): readonly string[] {
  return keys.map(
    (key) => `The foreign key ${showName(tableName(stored, key))} was left out: the table it refers to is not there.`,
  );
}
