/**
 * The restore of PostgreSQL: which way a backup goes back into a database.
 *
 *   swap, new    scratch database ─▶ definitions, rows, definitions ─▶ compared ─▶ renamed into place         restore-beside.ts
 *   in-place     one transaction: empty ─▶ definitions, rows, definitions ─▶ compared ─▶ COMMIT                in-place.ts
 *   tables       one transaction in an existing database, or beside in a new one                               restore-tables.ts
 *   scripts      the same modes by psql, for plain files                                                       restore-script.ts
 */
import { CellarError, throwIfAborted } from '../../errors.ts';
import type { OnProgress } from '../../progress.ts';
import type { BackupContents, RestoreOptions, RestoreReport } from '../engine.ts';
import { checkDatabaseName } from './database-names.ts';
import { restoreInPlace } from './in-place.ts';
import { restoreBeside } from './restore-beside.ts';
import { restoreScript } from './restore-script.ts';
import { restoreTables } from './restore-tables.ts';
import { readStoredArchive } from './stored-archive.ts';
import { parseTarget } from './target.ts';

/** See `Engine.restore`. */
export async function restoreDatabase(
  url: string,
  contents: BackupContents,
  options: RestoreOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<RestoreReport> {
  throwIfAborted(signal);
  const target = parseTarget(url);
  checkDatabaseName(target.database);
  checkOptions(options);
  if (contents.entries.some(({ kind }) => kind === 'script')) {
    return await restoreScript(target, contents, options, onProgress, signal);
  }
  const stored = await readStoredArchive(contents, signal);
  if (options.tables !== undefined) {
    return await restoreTables(target, stored, options.tables, options, onProgress, signal);
  }
  if (options.mode === 'in-place') return await restoreInPlace(target, stored, options, onProgress, signal);
  return await restoreBeside(target, stored, options, onProgress, signal);
}

function checkOptions({ mode, tables, intoSchema, content, jobs }: RestoreOptions): void {
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new CellarError('invalid-input', 'The number of jobs must be 1 or more.');
  if (tables !== undefined && mode === 'swap') {
    throw new CellarError('invalid-input', 'Chosen tables cannot be restored by swapping the whole database.', {
      hint: 'Use mode in-place to replace these tables in the database, or new to add them where they do not exist.',
    });
  }
  if (tables !== undefined && tables.length === 0) throw new CellarError('invalid-input', 'No tables were chosen.');
  if (intoSchema !== undefined && tables === undefined) {
    throw new CellarError('invalid-input', 'Only chosen tables can be restored into another schema.', {
      hint: 'Name the tables to restore.',
    });
  }
  if (content === 'data' && mode !== 'in-place') {
    throw new CellarError(
      'invalid-input',
      'Rows alone can only be restored into tables that are there: in mode in-place.',
      {
        hint: 'Use mode in-place.',
      },
    );
  }
}
