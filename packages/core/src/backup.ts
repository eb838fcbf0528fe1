/**
 * The verb: back up a database into a repository, or into a folder of plain files.
 *
 * A backup is listed only when all of it is stored and was checked: every table came exactly once, with as many rows as the
 * dump's own transaction saw. Anything else throws and leaves the source and the earlier backups as they were.
 */
import type { DumpOptions } from './engine/engine.ts';
import { ingest } from './pipeline/ingest.ts';
import type { OnProgress } from './progress.ts';
import { engineForUrl } from './registry.ts';
import type { BackupManifest } from './repository/backup-manifest.ts';
import type { Repository } from './repository/repository.ts';

export interface BackupRequest {
  /** The database to back up; may hold a password, which goes nowhere. */
  readonly url: string;
  /** What the backups of this database are listed under; its own name where not given. */
  readonly name?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly options: DumpOptions;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** Takes a backup into `repository`, storing only what its predecessor does not hold. */
export async function backupToRepository(repository: Repository, request: BackupRequest): Promise<BackupManifest> {
  const { url, options, onProgress, signal } = request;
  const engine = await engineForUrl(url);
  const database = request.name ?? engine.describe(url).database;

  await using writer = await repository.beginBackup({ database }, signal);
  onProgress({ phase: 'connect' });
  await using dump = await engine.openDump(url, options, signal);
  const parts = await ingest(dump, writer, { jobs: options.jobs, chunks: repository.chunks, onProgress, signal });
  const { source, entries } = await dump.finish(parts, signal);

  onProgress({ phase: 'commit' });
  return await writer.commit(
    { source, entries, options, description: request.description ?? '', tags: request.tags ?? [] },
    signal,
  );
}
