/**
 * The library's results as JSON documents for programs: snake_case, byte counts as integers named `…_bytes`, times in RFC 3339 and
 * UTC, like the API's. Scripts rely on these shapes: fields are added, never renamed.
 */
import type { BackupManifest, SourceFacts } from '@cellar/core';

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
  const { stats, source } = manifest;
  return {
    id: manifest.id,
    name: manifest.database,
    created_at: manifest.createdAt.toISOString(),
    started_at: manifest.startedAt.toISOString(),
    description: manifest.description,
    tags: [...manifest.tags],
    database_name: source.database,
    database_host: source.host,
    server_version: source.serverVersion,
    table_count: tablesOf(manifest).length,
    row_count: rowsOf(manifest),
    parent: manifest.parent,
    raw_bytes: stats.rawBytes,
    new_raw_bytes: stats.newRawBytes,
    new_stored_bytes: stats.newStoredBytes,
    reused_bytes: stats.reusedBytes,
    warnings: [...source.warnings],
  };
}

export function tablesOf(manifest: BackupManifest) {
  return manifest.entries.filter((entry) => entry.kind === 'rows');
}

export function rowsOf(manifest: BackupManifest): number {
  return tablesOf(manifest).reduce((sum, entry) => sum + (entry.rows ?? 0), 0);
}
