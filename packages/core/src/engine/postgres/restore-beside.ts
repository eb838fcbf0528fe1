/**
 * Restores a whole backup into a database beside the live one, compares it, and renames it into place. Whatever goes wrong before the
 * rename drops the scratch database and leaves the live one as it was.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { CellarError, isCellarError, throwIfAborted } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { BackupContents, RestoreOptions, RestoreReport } from '../engine.ts';
import { archiveText } from './archive.ts';
import { compareDefinitions } from './compare-definitions.ts';
import type { Connection } from './connection.ts';
import { scratchName } from './database-names.ts';
import {
  type DatabaseProperties,
  databasePropertiesSql,
  readDatabaseProperties,
  rolesOfProperties,
} from './database-properties.ts';
import { fillDatabase } from './fill-database.ts';
import { checkFreeSpace } from './free-space.ts';
import { restoreGlobals } from './globals-in.ts';
import { Phases } from './phases.ts';
import { cleanUpAfterCrash, connectBeside, createClauses, createScratch, dropScratch, lockRestore } from './scratch.ts';
import { sourceProperties } from './source-properties.ts';
import type { StoredArchive } from './stored-archive.ts';
import { checkSwappable, swapIn } from './swap.ts';
import { type Target, withDatabase } from './target.ts';
import { checkExtensions, checkRoles, checkTablespaces, refusePart, rolesOfEntries } from './target-checks.ts';

/** What is done in the scratch database; returns the tables for the report. */
export type Fill = (
  scratch: Target,
  phases: Phases,
  signal: AbortSignal,
) => Promise<{ readonly tables: RestoreReport['tables']; readonly warnings: readonly string[] }>;

export async function restoreBeside(
  target: Target,
  stored: StoredArchive,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  return await besideAndSwap(
    target,
    {
      contents: stored.contents,
      options,
      onProgress,
      properties: sourceProperties(stored.contents.source),
      createClauses: (major) => createClauses(stored, major),
      prepare: async (admin, phases) => await checkServer(admin, stored, options, phases, signal),
      fill: async (scratch, phases, own) => {
        const filled = await fillDatabase(scratch, stored, options, phases, own);
        // Without owners or privileges the definitions are meant to differ.
        if (!options.prove || options.owners === 'drop' || options.privileges === 'drop') return filled;
        const differences = await phases.run(
          'compare-definitions',
          async () => await compareDefinitions(scratch, stored, own),
        );
        return { ...filled, warnings: [...filled.warnings, ...differences] };
      },
    },
    signal,
  );
}

/** Globals where asked for, then: does the server have what the backup names? */
async function checkServer(
  admin: Connection,
  stored: StoredArchive,
  options: RestoreOptions,
  phases: Phases,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const warnings: string[] = [];
  if (options.globals) {
    warnings.push(...(await phases.run('globals', async () => await restoreGlobals(admin, stored.contents, signal))));
  }
  const entries = stored.toc.entries.filter(({ description }) => !archiveText(description).startsWith('DATABASE'));
  await checkRoles(admin, rolesOfEntries(stored, entries, options));
  await checkTablespaces(admin, stored, entries);
  warnings.push(...(await checkExtensions(admin, stored, entries)));
  return warnings;
}

export interface BesideWork {
  readonly contents: BackupContents;
  readonly options: RestoreOptions;
  readonly onProgress: OnProgress;
  /** Of the source, for a database that replaces none. */
  readonly properties: DatabaseProperties | undefined;
  readonly createClauses: (targetMajor: number) => string;
  readonly prepare: (admin: Connection, phases: Phases) => Promise<readonly string[]>;
  readonly fill: Fill;
}

/** The frame of every restore beside: checks, scratch database, fill, properties, swap or rename. */
export async function besideAndSwap(target: Target, work: BesideWork, signal: AbortSignal): Promise<RestoreReport> {
  const { options } = work;
  const phases = new Phases(work.onProgress);
  const warnings: string[] = [];
  const database = target.database;

  await using admin = await connectBeside(target, signal);
  await lockRestore(admin, database);
  warnings.push(...(await cleanUpAfterCrash(admin, database)));
  const live = await readDatabaseProperties(admin, database);
  await checkMode(admin, database, live !== undefined, options);
  if (live !== undefined) {
    refusePart(work.contents, options, database);
    warnings.push(...(await checkSwappable(admin, database)));
  }
  if (live === undefined && options.mode === 'swap')
    warnings.push(`There was no database ${database}: it was created.`);
  await checkMayCreate(admin, live);
  await checkFreeSpace(admin, work.contents);
  warnings.push(...(await work.prepare(admin, phases)));
  const properties = live ?? work.properties;
  const propertyRoles = properties === undefined ? [] : rolesOfProperties(properties, options);
  if (live === undefined) await checkRoles(admin, propertyRoles);

  const scratch = scratchName(database, scratchId(options.now));
  const placeSql =
    live === undefined || live.tablespace === 'pg_default'
      ? ''
      : ` TABLESPACE = ${pg.escapeIdentifier(live.tablespace)}`;
  let inPlace = false;
  try {
    await phases.run('create', async () => {
      await createScratch(
        admin,
        scratch,
        { target: database, state: 'loading' },
        work.createClauses(admin.serverMajor) + placeSql,
      );
    });
    const filled = await work.fill(withDatabase(target, scratch), phases, signal);
    warnings.push(...filled.warnings);
    if (properties !== undefined) {
      for (const sql of databasePropertiesSql(scratch, properties, options)) {
        // The comment is the mark of the scratch database until the last moment.
        if (!sql.startsWith('COMMENT ')) await admin.query(sql, 'carry over the properties of the database');
      }
    } else {
      await admin.query(
        `GRANT CONNECT, TEMPORARY ON DATABASE ${pg.escapeIdentifier(scratch)} TO PUBLIC`,
        'open the database to its users',
      );
    }
    throwIfAborted(signal);
    const previous = await phases.run('swap', async () => {
      if (live !== undefined) return await swapIn({ target, scratch, comment: live.comment, now: options.now });
      await renameInto(admin, scratch, database, properties?.comment);
      return undefined;
    });
    inPlace = true;
    return {
      mode: options.mode,
      database,
      ...(previous === undefined ? {} : { previous }),
      tables: filled.tables,
      phases: phases.done,
      warnings,
    };
  } catch (error) {
    if (inPlace) throw error;
    throw await withoutScratch(target, scratch, error);
  }
}

/** The error to throw once the scratch database is gone; where it cannot be dropped, the next restore does. */
async function withoutScratch(target: Target, scratch: string, error: unknown): Promise<unknown> {
  try {
    await dropScratch(target, scratch);
    return error;
  } catch {
    if (!isCellarError(error)) return error;
    return new CellarError(error.code, `${error.message} The scratch database ${scratch} could not be dropped.`, {
      hint: `${error.hint ?? ''} The next restore into ${target.database} drops it, or DROP DATABASE ${pg.escapeIdentifier(scratch)}.`.trim(),
      retryable: error.retryable,
      cause: error,
      details: error.details,
    });
  }
}

async function checkMode(admin: Connection, database: string, exists: boolean, options: RestoreOptions): Promise<void> {
  if (!exists || options.mode !== 'new') return;
  throw new CellarError('conflict', `There is a database ${database} already on ${admin.target.host}.`, {
    hint: 'Give another name, or use mode swap to replace it.',
  });
}

/** Creating and renaming take CREATEDB and, where there is a live database, owning it. */
async function checkMayCreate(admin: Connection, live: DatabaseProperties | undefined): Promise<void> {
  const [row] = await admin.query(
    `SELECT rolsuper OR rolcreatedb AS may_create, current_user AS name,
            rolsuper OR $1::text IS NULL OR pg_has_role(current_user, $1::text, 'USAGE') AS owns
       FROM pg_roles WHERE rolname = current_user`,
    'look up the rights of this user',
    [live?.owner ?? null],
  );
  const user = row?.['name'] ?? '';
  if (row?.['may_create'] !== 't') {
    throw new CellarError(
      'database-privilege',
      `The user ${user} may not create databases, so nothing can be restored beside the live one.`,
      {
        hint: `ALTER ROLE ${pg.escapeIdentifier(user)} CREATEDB; or use mode in-place.`,
      },
    );
  }
  if (row?.['owns'] !== 't') {
    throw new CellarError(
      'database-privilege',
      `The user ${user} does not own the database, so it may not rename it.`,
      {
        hint: `Connect as ${live?.owner ?? 'its owner'} or a superuser; or use mode in-place.`,
      },
    );
  }
}

async function renameInto(
  admin: Connection,
  scratch: string,
  database: string,
  comment: string | undefined,
): Promise<void> {
  await admin.query('SET synchronous_commit = on', 'prepare the rename');
  await admin.query(
    [
      'BEGIN',
      `ALTER DATABASE ${pg.escapeIdentifier(scratch)} RENAME TO ${pg.escapeIdentifier(database)}`,
      `COMMENT ON DATABASE ${pg.escapeIdentifier(database)} IS ${comment === undefined ? 'NULL' : pg.escapeLiteral(comment)}`,
      'COMMIT',
    ].join(';'),
    `give the restored database its name ${database}`,
  );
}

/** Sorts by time and is unique: seconds in base 36, and chance. */
function scratchId(now: Date): string {
  const seconds = Math.floor(now.getTime() / 1000)
    .toString(36)
    .padStart(7, '0');
  return `${seconds}${BigInt(`0x${randomBytes(5).toString('hex')}`)
    .toString(36)
    .padStart(8, '0')
    .slice(-7)}`;
}
