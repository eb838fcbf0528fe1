/** What the command line and the server use of Cellar's library. */

export type { FolderBackupRequest, RepositoryBackupRequest } from './backup.ts';
export { backupToFolder, backupToRepository } from './backup.ts';
export type { CleanupReport, CleanupRequest } from './cleanup.ts';
export { cleanup, folderPlace, repositoryPlace } from './cleanup.ts';
export type {
  BackupContents,
  DumpFilters,
  DumpOptions,
  Engine,
  Entry,
  EntryKind,
  ProbeReport,
  RestoredTable,
  RestoreMode,
  RestoreOptions,
  RestoreReport,
  ScriptLocator,
  SourceFacts,
  TableName,
} from './engine/engine.ts';
export { NO_FILTERS } from './engine/engine.ts';
export type { ErrorCode } from './errors.ts';
export { assertNever, CellarError, isCellarError } from './errors.ts';
export type { ExportAs } from './export.ts';
export { exportBackup } from './export.ts';
export type { Json } from './json.ts';
export type { AgeEncryption, AgeKeys } from './plain/age.ts';
export { checkAgeRecipient, NO_AGE_KEYS, parseAgeIdentities } from './plain/age.ts';
export type { Compression } from './plain/compression.ts';
export { parsePlainName } from './plain/file-name.ts';
export type { PlainBackup, PlainVerdict } from './plain/plain-backup.ts';
export type { PlainListing } from './plain/plain-folder.ts';
export { PlainFolder } from './plain/plain-folder.ts';
export type { OnProgress, ProgressEvent } from './progress.ts';
export { engineById, engineForUrl, openStorage } from './registry.ts';
export type { BackupManifest, BackupStats, StoredEntry } from './repository/backup-manifest.ts';
export type { BackupListing, Hold } from './repository/backups.ts';
export type { CheckOptions, CheckReport, Finding } from './repository/check.ts';
export type { CollectReport } from './repository/collect.ts';
export type { KeyProtection } from './repository/key-object.ts';
export type { KeyFacts, RecoveryKit } from './repository/keys.ts';
export type { Repository } from './repository/repository.ts';
export { initRepository, openRepository } from './repository/repository.ts';
export type { RestoreRequest } from './restore.ts';
export { restoreBackup } from './restore.ts';
export { parsePolicy, parseTimeZone } from './retention/parse-policy.ts';
export type { RetainedBackup, RetentionDecision, RetentionPolicy } from './retention/policy.ts';
export { decideRetention } from './retention/policy.ts';
export type { Storage } from './storage/storage.ts';
