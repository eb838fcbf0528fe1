/**
 * The verb: restore a backup, from a repository or a plain file, into a database.
 *
 * The engine that made the backup puts it back. Whatever the mode, a restore that does not come to its end leaves the target as it
 * was, and one that does has been compared with what the backup says it holds.
 */
import type { BackupContents, RestoreOptions, RestoreReport } from './engine/engine.ts';
import { CellarError } from './errors.ts';
import type { OnProgress } from './progress.ts';
import { engineForUrl } from './registry.ts';

export interface RestoreRequest {
  /** The database to restore to; may hold a password, which goes nowhere. */
  readonly url: string;
  readonly contents: BackupContents;
  readonly options: RestoreOptions;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

export async function restoreBackup(request: RestoreRequest): Promise<RestoreReport> {
  const { url, contents, options, onProgress, signal } = request;
  const engine = await engineForUrl(url);
  if (engine.id !== contents.source.engine) {
    throw new CellarError(
      'invalid-input',
      `A backup of ${contents.source.engine} cannot be restored into a database of ${engine.id}.`,
    );
  }
  return await engine.restore(url, contents, options, onProgress, signal);
}
