/**
 * Replaces the rows of existing tables by those of a backup, in one transaction, and leaves the definitions as they are. Foreign keys
 * that touch the tables are taken down and put up again at the end, which checks every row; the tables' own triggers do not fire.
 */
import { CellarError } from '../../errors.ts';
import type { RestoreOptions, RestoreReport } from '../engine.ts';
import { archiveText, type TocEntry } from './archive.ts';
import type { Connection } from './connection.ts';
import { planDefinitions } from './definitions.ts';
import { dropLargeObjects } from './empty-database.ts';
import { definitionOptions, fillLargeObjectsOn } from './fill-database.ts';
import { inOneTransaction } from './one-transaction.ts';
import type { Phases } from './phases.ts';
import type { StoredArchive, StoredRows } from './stored-archive.ts';
import type { Target } from './target.ts';
import { quotedName, showName } from './verify-restored.ts';

/** @param whole also sequences of the whole backup, large objects, and materialized views. */
export async function replaceRows(
  target: Target,
  stored: StoredArchive,
  rows: readonly StoredRows[],
  whole: boolean,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
  isChosen: (entry: TocEntry) => boolean = () => true,
): Promise<RestoreReport['tables']> {
  const plan = planDefinitions(stored, isChosen);
  const definition = await definitionOptions(target, stored, options, signal);
  return await inOneTransaction(target, stored, options, signal, async (transaction) => {
    const { connection } = transaction;
    const names = rows.filter(({ tableEntry }) => tableEntry !== undefined).map(({ table }) => quotedName(table));
    await checkPresent(connection, rows);
    const keys = await takeDownForeignKeys(connection, names);
    const triggers = await silenceTriggers(connection, names);
    await phases.run('empty', async () => {
      for (const { sql } of await truncateSql(connection, names)) await connection.query(sql, 'remove the rows');
    });
    await phases.run('load', async () => await transaction.load(rows, phases));
    await phases.run('data', async () => {
      await transaction.define(
        plan.data.filter((entry) => archiveText(entry.description) === 'SEQUENCE SET'),
        definition,
      );
    });
    if (whole && stored.largeObjects.length > 0) {
      await phases.run('large-objects', async () => {
        await dropLargeObjects(connection);
        await transaction.define(stored.toc.entries.filter(isLargeObject), definition);
        await fillLargeObjectsOn(connection, stored, phases, signal);
      });
    }
    await phases.run('post-data', async () => {
      for (const sql of [...triggers, ...keys]) await connection.query(sql, `put back what was taken down (${sql})`);
      if (whole) await transaction.define(plan['materialized-views'], definition);
    });
    return await phases.run('compare', async () => await transaction.compare(rows, phases));
  });
}

function isLargeObject(entry: TocEntry): boolean {
  const description = archiveText(entry.description);
  return description === 'BLOB' || description === 'BLOB METADATA' || archiveText(entry.tag).startsWith('LARGE OBJECT');
}

async function checkPresent(connection: Connection, rows: readonly StoredRows[]): Promise<void> {
  const missing: string[] = [];
  for (const { table } of rows) {
    const [row] = await connection.query('SELECT to_regclass($1) IS NULL AS missing', 'look for the tables', [
      quotedName(table),
    ]);
    if (row?.['missing'] === 't') missing.push(showName(table));
  }
  if (missing.length === 0) return;
  throw new CellarError(
    'not-found',
    `Tables of the backup are not in the database: ${missing.slice(0, 10).join(', ')}.`,
    {
      hint: 'Restore their definitions too (content all), or only the tables that are there.',
      details: { tables: missing },
    },
  );
}

/** Drops foreign keys from and to the tables; returns the SQL that brings them back, comments included. */
async function takeDownForeignKeys(connection: Connection, names: readonly string[]): Promise<readonly string[]> {
  if (names.length === 0) return [];
  const found = await connection.query(
    `SELECT format('ALTER TABLE %s%s DROP CONSTRAINT %I', CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END, k.conrelid::regclass, k.conname) AS down,
            format('ALTER TABLE %s%s ADD CONSTRAINT %I %s', CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END, k.conrelid::regclass, k.conname,
                   pg_get_constraintdef(k.oid)) AS up,
            format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.conrelid::regclass, obj_description(k.oid, 'pg_constraint')) AS comment,
            obj_description(k.oid, 'pg_constraint') IS NOT NULL AS commented
       FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      WHERE k.contype = 'f' AND k.conparentid = 0
        AND EXISTS (SELECT FROM unnest($1::text[]) n
                     WHERE n::regclass IN (k.conrelid, k.confrelid)
                        OR n::regclass IN (SELECT relid FROM pg_partition_tree(k.conrelid))
                        OR n::regclass IN (SELECT relid FROM pg_partition_tree(k.confrelid)))`,
    'list the foreign keys',
    [textArray(names)],
  );
  for (const { down } of found) await connection.query(down ?? '', `take a foreign key down (${down ?? ''})`);
  return found.flatMap(({ up, comment, commented }) => [up ?? '', ...(commented === 't' ? [comment ?? ''] : [])]);
}

const STATES: Readonly<Record<string, string>> = { O: 'ENABLE', R: 'ENABLE REPLICA', A: 'ENABLE ALWAYS' };

/** Disables the tables' own triggers; returns the SQL that sets them as they were. */
async function silenceTriggers(connection: Connection, names: readonly string[]): Promise<readonly string[]> {
  if (names.length === 0) return [];
  const found = await connection.query(
    `SELECT t.tgrelid::regclass AS on_table, quote_ident(t.tgname) AS trigger, t.tgenabled AS state FROM pg_trigger t
      WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgrelid IN (SELECT unnest($1::text[])::regclass)`,
    'list the triggers',
    [textArray(names)],
  );
  for (const { on_table, trigger } of found) {
    await connection.query(`ALTER TABLE ONLY ${on_table ?? ''} DISABLE TRIGGER ${trigger ?? ''}`, 'silence a trigger');
  }
  return found.map(
    ({ on_table, trigger, state }) =>
      `ALTER TABLE ONLY ${on_table ?? ''} ${STATES[state ?? ''] ?? 'ENABLE'} TRIGGER ${trigger ?? ''}`,
  );
}

async function truncateSql(
  connection: Connection,
  names: readonly string[],
): Promise<readonly { readonly sql: string }[]> {
  if (names.length === 0) return [];
  // All in one statement: tables that still hang together are emptied together. Search path is empty, so names come qualified.
  const [row] = await connection.query(
    `SELECT string_agg('ONLY ' || n::regclass, ', ') AS list FROM unnest($1::text[]) n`,
    'list the tables',
    [textArray(names)],
  );
  return [{ sql: `TRUNCATE TABLE ${row?.['list'] ?? ''}` }];
}

/** An array literal for a text[] parameter. */
function textArray(items: readonly string[]): string {
  return `{${items.map((item) => `"${item.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`).join(',')}}`;
}
