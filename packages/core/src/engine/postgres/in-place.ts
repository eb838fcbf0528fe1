/**
 * Restores a whole backup into an existing database in one transaction, where no database may be created beside: the database is
 * emptied, filled and compared before the COMMIT. Others wait for its tables meanwhile, and see all of it or nothing.
 *
 * With `content: 'data'` the definitions stay and only the rows are replaced (restore-data.ts).
 */
import { CellarError, isCellarError } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { RestoreOptions, RestoreReport } from '../engine.ts';
import { archiveText } from './archive.ts';
import { type Connection, connect } from './connection.ts';
import { planDefinitions } from './definitions.ts';
import { emptyDatabase } from './empty-database.ts';
import { analyze, definitionOptions, expectedObjects, fillLargeObjectsOn, isData } from './fill-database.ts';
import { restoreGlobals } from './globals-in.ts';
import { inOneTransaction } from './one-transaction.ts';
import { Phases } from './phases.ts';
import { replaceRows } from './restore-data.ts';
import type { StoredArchive } from './stored-archive.ts';
import type { Target } from './target.ts';
import { checkExtensions, checkRoles, checkTablespaces, refusePart, rolesOfEntries } from './target-checks.ts';
import { checkSequencesAndObjects } from './verify-restored.ts';

export async function restoreInPlace(
  target: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  if (options.content !== 'data') refusePart(stored.contents, options, target.database);
  const phases = new Phases(onProgress);
  const warnings = [...(await checkBefore(target, stored, options, phases, signal))];
  const tables =
    options.content === 'data'
      ? await replaceRows(target, stored, stored.rows, true, options, phases, signal)
      : await replaceAll(target, stored, options, phases, signal);
  warnings.push(...(await phases.run('analyze', async () => await analyze(target, options.jobs, signal))));
  return { mode: 'in-place', database: target.database, tables, phases: phases.done, warnings };
}

async function replaceAll(
  target: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
): Promise<RestoreReport['tables']> {
  const withRows = options.content !== 'schema';
  const plan = planDefinitions(stored, (entry) => withRows || !isData(entry));
  const definition = await definitionOptions(target, stored, options, signal);
  return await inOneTransaction(target, stored, options, signal, async (transaction) => {
    await phases.run('empty', async () => await emptyDatabase(transaction.connection));
    await phases.run('pre-data', async () => await transaction.define(plan['pre-data'], definition));
    if (withRows) {
      await phases.run('load', async () => await transaction.load(stored.rows, phases));
    }
    await phases.run('data', async () => await transaction.define(plan.data, definition));
    if (withRows && stored.largeObjects.length > 0) {
      await phases.run('large-objects', async () => {
        await fillLargeObjectsOn(transaction.connection, stored, phases, signal);
      });
    }
    await phases.run('post-data', async () => {
      await transaction.connection.query(
        `SET LOCAL maintenance_work_mem = '${definition.maintenanceMemoryMb}MB'`,
        'prepare the index builds',
      );
      await transaction.define(plan['post-data'], definition);
    });
    await phases.run('privileges', async () => await transaction.define(plan.privileges, definition));
    if (withRows) {
      await phases.run(
        'materialized-views',
        async () => await transaction.define(plan['materialized-views'], definition),
      );
    }
    await phases.run('event-triggers', async () => await transaction.define(plan['event-triggers'], definition));
    if (!withRows) return [];
    return await phases.run('compare', async () => {
      const restored = await transaction.compare(stored.rows, phases);
      const included = new Set(plan.data);
      await checkSequencesAndObjects(
        transaction.connection,
        stored,
        (index) => stored.toc.entries.some((entry, at) => at === index && included.has(entry)),
        expectedObjects(stored),
      );
      return restored;
    });
  });
}

/** What can be known before anything is touched. */
async function checkBefore(
  target: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
): Promise<readonly string[]> {
  await using connection = await connectExisting(target, signal);
  const warnings: string[] = [];
  if (options.globals) {
    warnings.push(
      ...(await phases.run('globals', async () => await restoreGlobals(connection, stored.contents, signal))),
    );
  }
  if (options.content === 'data') return warnings;
  const entries = stored.toc.entries.filter(({ description }) => !archiveText(description).startsWith('DATABASE'));
  await checkRoles(connection, rolesOfEntries(stored, entries, options));
  await checkTablespaces(connection, stored, entries);
  warnings.push(...(await checkExtensions(connection, stored, entries)));
  await checkLockTable(connection, entries.length);
  return warnings;
}

/** Connects to the database that is to be restored in place. Throws `not-found` with what to do when there is none. */
export async function connectExisting(target: Target, signal: AbortSignal): Promise<Connection> {
  try {
    return await connect(target, signal);
  } catch (error) {
    if (!isCellarError(error, 'not-found')) throw error;
    throw new CellarError(
      'not-found',
      `There is no database ${target.database}, so nothing can be restored in place.`,
      {
        hint: 'Use mode new to create it.',
        cause: error,
      },
    );
  }
}

/**
 * One transaction locks every object that it drops or makes. The server has room for max_locks_per_transaction × (max_connections +
 * max_prepared_transactions) locks in all, and some to spare; beyond, the restore would fail late and disturb others until then.
 */
async function checkLockTable(connection: Connection, entries: number): Promise<void> {
  const [row] = await connection.query(
    `SELECT current_setting('max_locks_per_transaction')::bigint
              * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS room,
            (SELECT count(*) FROM pg_class WHERE oid >= 16384) + (SELECT count(*) FROM pg_largeobject_metadata) AS present`,
    'estimate the locks that the restore takes',
  );
  const room = Number(row?.['room']);
  const needed = Number(row?.['present']) + entries;
  // The table is made somewhat larger than it promises, and a restore of definitions takes several locks for each.
  if (needed <= room * 1.5) return;
  throw new CellarError(
    'conflict',
    `Restoring in place takes at least ${needed} locks in one transaction, and the server has room for ${room}.`,
    {
      hint: `Raise max_locks_per_transaction to ${Math.ceil((needed * 64) / Math.max(1, room) / 64) * 128} and restart the server, or use mode swap, which needs no such transaction.`,
      details: { needed, room },
    },
  );
}
