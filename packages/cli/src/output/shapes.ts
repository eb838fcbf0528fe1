/**
 * The library's results as JSON documents for programs: snake_case, byte counts as integers named `…_bytes`, times in RFC 3339 and
 * UTC, like the API's. Scripts rely on these shapes: fields are added, never renamed.
 */
import type { BackupListing, BackupManifest, PlainBackup, SourceFacts } from '@cellar/core';

export function sourceJson(source: SourceFacts) {
  return {
    engine: source.engine,
    server_version: source.serverVersion,
    database_name: source.database,
    database_host: source.host,
    database_port: source.port,
    encoding: source.encoding,
    collate: source.collate,
    ctype: source.ctype,
    extensions: source.extensions.map(({ name, version, schema }) => ({ name, version, schema })),
    tools: source.tools,
    schema_digest: source.schemaDigest,
    warnings: source.warnings,
  };
}

/** A backup in a repository, without its entries. */
export function backupJson(manifest: BackupManifest) {
  return {
    id: manifest.id,
    name: manifest.database,
    created_at: manifest.createdAt.toISOString(),
    started_at: manifest.startedAt.toISOString(),
    description: manifest.description,
    tags: [...manifest.tags],
    parent: manifest.parent,
    row_count: rowsOf(manifest),
    ...statsJson(manifest.stats),
  };
}

/** A line of the list: a damaged backup has its id, its state and the reason, and nothing else that could be known. */
export function listingJson(listing: BackupListing) {
  const { id, state, held } = listing;
  if (listing.state === 'damaged') return { id, state, held, error: listing.error.message };
  return {
    id,
    state,
    held,
    name: listing.database,
    created_at: listing.createdAt.toISOString(),
    started_at: listing.startedAt.toISOString(),
    description: listing.description,
    tags: [...listing.tags],
    part: listing.part ?? null,
    parent: listing.parent,
    engine: listing.engine,
    server_version: listing.serverVersion,
    row_count: listing.rows,
    ...statsJson(listing.stats),
  };
}

/** A plain file; the first fields are those of the API's backups. */
export function plainBackupJson(backup: PlainBackup) {
  return {
    filename: backup.name.fileName,
    timestamp: backup.name.timestamp,
    created_at: backup.createdAt.toISOString(),
    description: backup.description,
    size_bytes: backup.sizeBytes,
    database_name: backup.databaseName,
    database_host: backup.databaseHost,
    encrypted: backup.name.encrypted,
    compression: backup.name.compression,
    table_count: backup.facts?.script.tables.length ?? null,
    row_count: backup.facts?.script.tables.reduce((sum, table) => sum + table.rows, 0) ?? null,
    script_bytes: backup.facts?.scriptBytes ?? null,
    part: backup.part ?? null,
    problems: [...backup.problems],
  };
}

export function rowsOf(manifest: BackupManifest): number {
  return manifest.entries.reduce((sum, entry) => sum + (entry.kind === 'rows' ? (entry.rows ?? 0) : 0), 0);
}

function statsJson(stats: BackupManifest['stats']) {
  return {
    raw_bytes: stats.rawBytes,
    new_raw_bytes: stats.newRawBytes,
    new_stored_bytes: stats.newStoredBytes,
    reused_bytes: stats.reusedBytes,
  };
}
