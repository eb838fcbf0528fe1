/**
 * The verb: back up a database into a repository, or as a plain file into a folder.
 *
 * A backup is listed only when all of it is stored and was checked: every table came exactly once, with as many rows as the
 * dump's own transaction saw. Anything else throws and leaves the source and the earlier backups as they were.
 */
import type { DumpOptions } from './engine/engine.ts';
import { IngestCrew } from './pipeline/ingest.ts';
import type { AgeEncryption } from './plain/age.ts';
import type { Compression } from './plain/compression.ts';
import { givenPrefix, prefixFor } from './plain/file-name.ts';
import type { PlainBackup } from './plain/plain-backup.ts';
import type { PlainFolder } from './plain/plain-folder.ts';
import type { OnProgress } from './progress.ts';
import { engineForUrl } from './registry.ts';
import type { BackupManifest } from './repository/backup-manifest.ts';
import type { Repository } from './repository/repository.ts';

interface BackupRequest {
  /** The database to back up; may hold a password, which goes nowhere. */
  readonly url: string;
  readonly description?: string;
  readonly options: DumpOptions;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

export interface RepositoryBackupRequest extends BackupRequest {
  /** What the backups of this database are listed under; its own name where not given. */
  readonly name?: string;
  readonly tags?: readonly string[];
}

/**
 * Takes a backup into `repository`, storing only what its predecessor does not hold. The repository may still be opening: deriving
 * its key from a passphrase takes as long as opening the database, and neither needs the other.
 */
export async function backupToRepository(
  repository: Repository | Promise<Repository>,
  request: RepositoryBackupRequest,
): Promise<BackupManifest> {
  const { url, options, onProgress, signal } = request;
  const engine = await engineForUrl(url);
  const database = request.name ?? engine.describe(url).database;

  onProgress({ phase: 'connect' });
  await using crew = new IngestCrew(options.jobs);
  const [opened, opening] = await Promise.allSettled([repository, engine.openDump(url, options, signal)]);
  await using dump = opening.status === 'fulfilled' ? opening.value : undefined;
  if (opened.status === 'rejected') throw opened.reason;
  if (dump === undefined) throw (opening as PromiseRejectedResult).reason;

  const { chunks } = opened.value;
  await using writer = await opened.value.beginBackup({ database }, signal);
  const parts = await crew.ingest(dump, writer, { chunks, onProgress, signal });
  const { source, entries } = await dump.finish(parts, signal);

  onProgress({ phase: 'commit' });
  return await writer.commit(
    { source, entries, options, description: request.description ?? '', tags: request.tags ?? [] },
    signal,
  );
}

export interface FolderBackupRequest extends BackupRequest {
  readonly compression: Compression;
  /** Undefined: not encrypted. */
  readonly encryption?: AgeEncryption | undefined;
  /** How the file's name begins, where not with the database's name. */
  readonly prefix?: string;
  /** The time of the backup. */
  readonly now: Date;
}

/** Writes a backup as one plain file, with its sidecar, that the stock tools restore without Cellar. */
export async function backupToFolder(folder: PlainFolder, request: FolderBackupRequest): Promise<PlainBackup> {
  const { url, options, onProgress, signal } = request;
  const engine = await engineForUrl(url);
  const prefix = request.prefix === undefined ? prefixFor(engine.describe(url).database) : givenPrefix(request.prefix);

  onProgress({ phase: 'connect' });
  await using dump = await engine.openScriptDump(url, options, signal);
  return await folder.write({
    engine,
    dump,
    prefix,
    description: request.description ?? '',
    compression: request.compression,
    encryption: request.encryption,
    filters: options.filters,
    now: request.now,
    onProgress,
    signal,
  });
}
