/**
 * Compares a restored database with what the backup says: a real count of every table, the digest of its rows where asked for,
 * sequences, large objects. pg_restore ends with exit code 0 after loading nothing, so nothing is believed that was not counted.
 */
import pg from 'pg';
import { CellarError } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { RestoredTable, TableName } from '../engine.ts';
import { archiveText } from './archive.ts';
import type { Connection } from './connection.ts';
import type { StoredDigests } from './load.ts';
import { addRowDigests } from './row-digest.ts';
import { type StoredArchive, type StoredRows, storedText } from './stored-archive.ts';

/** Stored tables that are counted as one: alone, or all that were loaded through one partition root. */
export interface CheckedTable {
  readonly table: TableName;
  readonly stored: readonly StoredRows[];
  readonly expectedRows: number;
  readonly throughRoot: boolean;
}

/** Groups the stored tables for counting. Rows loaded through a partition root may lie in another partition: that tree counts as one. */
export async function checkedTables(
  connection: Connection,
  tables: readonly StoredRows[],
): Promise<readonly CheckedTable[]> {
  const single = (stored: StoredRows): CheckedTable => ({
    table: stored.table,
    stored: [stored],
    expectedRows: stored.expectedRows,
    throughRoot: false,
  });
  if (!tables.some(({ viaRoot }) => viaRoot)) return tables.map(single);
  const rootOf = new Map<StoredRows, TableName>();
  for (const stored of tables) {
    const [row] = await connection.query(
      `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = pg_partition_root($1::regclass)`,
      'look up partition roots',
      [quotedName(stored.table)],
    );
    if (row !== undefined) rootOf.set(stored, { schema: row['schema'] ?? '', name: row['name'] ?? '' });
  }
  const key = (stored: StoredRows) => {
    const root = rootOf.get(stored);
    return root === undefined ? undefined : quotedName(root);
  };
  const grouped = new Set(tables.filter(({ viaRoot }) => viaRoot).map(key));
  const groups = new Map<string, StoredRows[]>();
  const checked: CheckedTable[] = [];
  for (const stored of tables) {
    const root = key(stored);
    if (root === undefined || !grouped.has(root)) checked.push(single(stored));
    else groups.set(root, [...(groups.get(root) ?? []), stored]);
  }
  for (const members of groups.values()) {
    const [first] = members;
    const table = first === undefined ? undefined : rootOf.get(first);
    if (table === undefined) continue;
    const expectedRows = members.reduce((sum, { expectedRows: rows }) => sum + rows, 0);
    checked.push({ table, stored: members, expectedRows, throughRoot: true });
  }
  return checked;
}

/**
 * The tables of extensions, which CREATE EXTENSION fills with rows of its own: the dump holds only what was added to them. To be
 * asked after the definitions and before the rows are in. Rows there already, by entry name.
 */
export async function rowsBefore(
  connection: Connection,
  tables: readonly StoredRows[],
): Promise<ReadonlyMap<string, number>> {
  const before = new Map<string, number>();
  for (const { entry, table, tableEntry } of tables) {
    if (tableEntry === undefined) before.set(entry.name, await countRows(connection, table, false));
  }
  return before;
}

/** Counts one table, less what was in it before the rows were loaded; throws `mismatch`. */
export async function countTable(
  connection: Connection,
  checked: CheckedTable,
  before: ReadonlyMap<string, number>,
): Promise<number> {
  const already = checked.stored.reduce((sum, { entry }) => sum + (before.get(entry.name) ?? 0), 0);
  const rows = (await countRows(connection, checked.table, checked.throughRoot)) - already;
  if (rows === checked.expectedRows) return rows;
  throw new CellarError(
    'mismatch',
    `${showName(checked.table)} has ${rows} rows after the restore, but the backup holds ${checked.expectedRows}.`,
    {
      hint: 'Nothing was replaced.',
      details: { table: showName(checked.table), expected: checked.expectedRows, found: rows },
    },
  );
}

async function countRows(connection: Connection, table: TableName, withPartitions: boolean): Promise<number> {
  const [row] = await connection.query(
    `SELECT count(*) AS rows FROM ${withPartitions ? '' : 'ONLY '}${quotedName(table)}`,
    `count the rows of ${showName(table)}`,
  );
  return Number(row?.['rows']);
}

/** What the stored streams of a checked table add up to; undefined where there is no digest, or an extension's own rows are among them. */
export function storedDigest(checked: CheckedTable, digests: StoredDigests): string | undefined {
  if (checked.stored.some(({ tableEntry }) => tableEntry === undefined)) return undefined;
  const parts = checked.stored.map(({ entry }) => digests.get(entry.name));
  return parts.every((part) => part !== undefined) ? addRowDigests(parts as string[]) : undefined;
}

export function compareDigests(table: TableName, stored: string, restored: string): void {
  if (stored === restored) return;
  throw new CellarError('mismatch', `The rows of ${showName(table)} differ from those in the backup.`, {
    hint: 'Nothing was replaced. Extensions or column types that print values differently on this server can be the reason.',
    details: { table: showName(table), stored, restored },
  });
}

/** Sequences stand where the backup had them; large objects are all there. */
export async function checkSequencesAndObjects(
  connection: Connection,
  stored: StoredArchive,
  chosen: (index: number) => boolean,
  largeObjects: number | undefined,
): Promise<void> {
  const encoded = stored.toc.entries.filter(
    (entry, index) => archiveText(entry.description) === 'SEQUENCE SET' && chosen(index),
  );
  for (const entry of encoded) {
    const set = /setval\('((?:[^']|'')*)', (-?\d+), (true|false)\)/.exec(storedText(stored, entry.definition));
    if (set === null) continue;
    const name = (set[1] ?? '').replaceAll("''", "'");
    const [row] = await connection.query(`SELECT last_value, is_called FROM ${name}`, `read the sequence ${name}`);
    if (row?.['last_value'] === set[2] && row?.['is_called'] === (set[3] === 'true' ? 't' : 'f')) continue;
    throw new CellarError('mismatch', `The sequence ${name} does not stand where the backup has it.`, {
      hint: 'Nothing was replaced.',
      details: { sequence: name, expected: set[2], found: row?.['last_value'] ?? null },
    });
  }
  if (largeObjects === undefined) return;
  const [row] = await connection.query(
    'SELECT count(*) AS objects FROM pg_largeobject_metadata',
    'count the large objects',
  );
  const found = Number(row?.['objects']);
  if (found === largeObjects) return;
  throw new CellarError('mismatch', `${found} large objects were restored, but the backup holds ${largeObjects}.`, {
    hint: 'Nothing was replaced.',
  });
}

/**
 * What to ANALYZE, so that the first queries after the restore are planned with statistics. Not the parents of foreign tables:
 * that would read from other servers.
 */
export async function tablesToAnalyze(connection: Connection): Promise<readonly string[]> {
  const rows = await connection.query(
    `WITH RECURSIVE foreign_kin AS (
       SELECT oid FROM pg_class WHERE relkind = 'f'
       UNION SELECT i.inhparent FROM pg_inherits i JOIN foreign_kin k ON k.oid = i.inhrelid
     )
     SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname !~ '^pg_(toast|temp)' AND c.oid NOT IN (SELECT oid FROM foreign_kin)
      ORDER BY c.relpages DESC`,
    'list the tables',
  );
  return rows.map(({ name }) => name ?? '');
}

export function quotedName({ schema, name }: TableName): string {
  return `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)}`;
}

export function showName({ schema, name }: TableName): string {
  return `${schema}.${name}`;
}

export function tellTable(onProgress: OnProgress, phase: string, done: number, total: number, table: TableName): void {
  onProgress({ phase, item: showName(table), done, total, exact: true });
}

/** A checked table as the report has it. */
export function restoredTable(
  checked: CheckedTable,
  restoredRows: number,
  rowDigest: string | undefined,
): RestoredTable {
  return {
    table: checked.table,
    expectedRows: checked.expectedRows,
    restoredRows,
    ...(rowDigest === undefined ? {} : { rowDigest }),
  };
}
