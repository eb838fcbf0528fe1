/** `cellar show`: all that is known of one backup: the source, the entries with rows and bytes, what was new. */
import type { BackupManifest, PlainBackup, StoredEntry } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { openFolderAt, openRepositoryAt } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, placeOf, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatCount, formatDuration, formatShare, formatTime } from '../output/format.ts';
import { backupJson, plainBackupJson, sourceJson } from '../output/shapes.ts';
import type { Run } from '../run.ts';

export function registerShow(program: Command, run: Run): void {
  addOutputOptions(addPlaceOptions(program.command('show')))
    .summary('show what a backup holds')
    .description('Shows where a backup came from, what it holds table by table, and what of it was new.')
    .argument('<backup>', 'an id, a unique start of one, a file name, latest, or NAME@latest')
    .addHelpText(
      'after',
      `
Examples:
  $ cellar show latest --repo /srv/backups
  $ cellar show shop@latest --repo /srv/backups --json | jq '.entries[] | {name, rows}'`,
    )
    .action(run(show));
}

async function show(context: Context, name: string, options: RepositoryOptions & FolderOptions): Promise<void> {
  const { output, signal } = context;
  const place = placeOf(context, options);
  if (place.kind === 'folder') {
    await using opened = await openFolderAt(place.path);
    const backup = await opened.folder.find(name, signal);
    output.result({
      json: () => plainJson(backup),
      text: () => plainText(context, backup),
      quiet: () => backup.name.fileName,
    });
    return;
  }
  await using opened = await openRepositoryAt(context, place.url, options);
  const manifest = await opened.repository.findBackup(name, signal);
  const hold = (await opened.repository.listHolds(signal)).find(({ backup }) => backup === manifest.id);
  output.result({
    json: () => manifestJson(manifest, hold?.reason),
    text: () => manifestText(context, manifest, hold?.reason),
    quiet: () => manifest.id,
  });
}

function manifestJson(manifest: BackupManifest, held: string | undefined) {
  const { filters, globals, jobs } = manifest.options;
  return {
    ...backupJson(manifest),
    held: held ?? null,
    source: sourceJson(manifest.source),
    options: {
      globals,
      jobs,
      include_schemas: filters.includeSchemas,
      exclude_schemas: filters.excludeSchemas,
      include_tables: filters.includeTables,
      exclude_tables: filters.excludeTables,
      exclude_table_data: filters.excludeTableData,
      schema_only: filters.schemaOnly,
    },
    entries: manifest.entries.map(({ name, kind, table, rows, bytes, digest }) => ({
      name,
      kind,
      table: table === undefined ? null : { schema: table.schema, name: table.name },
      rows: rows ?? null,
      bytes,
      digest,
    })),
    pack_count: manifest.packs.length,
    referenced_bytes: manifest.packs.reduce((sum, pack) => sum + pack.referencedBytes, 0),
  };
}

function manifestText(context: Context, manifest: BackupManifest, held: string | undefined): string {
  const { output } = context;
  const { source, stats } = manifest;
  const facts = output.facts([
    ['backup', manifest.id],
    ['database', manifest.database === source.database ? source.database : `${manifest.database} (${source.database})`],
    [
      'taken',
      `${formatTime(manifest.createdAt)}, in ${formatDuration(manifest.createdAt.getTime() - manifest.startedAt.getTime())}`,
    ],
    ['from', `${source.engine} ${source.serverVersion} at ${source.host}:${source.port}`],
    ['encoding', `${source.encoding}, ${source.collate}`],
    ['description', manifest.description === '' ? undefined : manifest.description],
    ['tags', manifest.tags.length === 0 ? undefined : manifest.tags.join(', ')],
    ['held', held],
    ['size', formatBytes(stats.rawBytes)],
    [
      'new',
      `${formatBytes(stats.newRawBytes)} (${formatShare(stats.newRawBytes, stats.rawBytes)}), stored in ${formatBytes(stats.newStoredBytes)}`,
    ],
    ['compared with', manifest.parent ?? 'nothing: it was the first'],
    ['left out', filtersOf(manifest)],
    [
      'extensions',
      source.extensions.length === 0 ? undefined : source.extensions.map(({ name, version }) => `${name} ${version}`),
    ],
    ['tools', Object.entries(source.tools).map(([tool, version]) => `${tool} ${version}`)],
    ['schema digest', source.schemaDigest],
    ['to know', source.warnings.length === 0 ? undefined : source.warnings],
  ]);
  const entries = output.table<StoredEntry>(
    [
      { head: 'entry', value: ({ name }) => name, stretch: true },
      { head: 'kind', value: ({ kind }) => kind, drop: 1 },
      { head: 'rows', value: ({ rows }) => (rows === undefined ? '' : formatCount(rows)), align: 'right' },
      { head: 'size', value: ({ bytes }) => formatBytes(bytes), align: 'right' },
    ],
    manifest.entries,
  );
  return `${facts}\n\n${entries}`;
}

/** What the filters kept out, in the words of the options; undefined where nothing was filtered. */
function filtersOf(manifest: BackupManifest): string[] | undefined {
  const { filters } = manifest.options;
  const lines = [
    ...filters.includeSchemas.map((pattern) => `all but --schema ${pattern}`),
    ...filters.includeTables.map((pattern) => `all but --table ${pattern}`),
    ...filters.excludeSchemas.map((pattern) => `--exclude-schema ${pattern}`),
    ...filters.excludeTables.map((pattern) => `--exclude-table ${pattern}`),
    ...filters.excludeTableData.map((pattern) => `--exclude-table-data ${pattern}`),
    ...(filters.schemaOnly ? ['all rows (--schema-only)'] : []),
  ];
  return lines.length === 0 ? undefined : lines;
}

function plainJson(backup: PlainBackup) {
  const { facts } = backup;
  return {
    ...plainBackupJson(backup),
    sha256: facts?.sha256 ?? null,
    source: facts === undefined ? null : sourceJson(facts.source),
    large_objects: facts?.script.largeObjects ?? null,
    tables: facts === undefined ? null : facts.script.tables.map(({ schema, name, rows }) => ({ schema, name, rows })),
  };
}

function plainText(context: Context, backup: PlainBackup): string {
  const { output } = context;
  const { name, facts } = backup;
  const source = facts?.source;
  const text = output.facts([
    ['file', name.fileName],
    ['database', backup.databaseName],
    ['taken', formatTime(backup.createdAt)],
    [
      'from',
      source === undefined
        ? backup.databaseHost || undefined
        : `${source.engine} ${source.serverVersion} at ${source.host}:${source.port}`,
    ],
    ['description', backup.description === '' ? undefined : backup.description],
    [
      'size',
      `${formatBytes(backup.sizeBytes)}${facts === undefined ? '' : `, ${formatBytes(facts.scriptBytes)} unpacked`}`,
    ],
    ['encrypted', name.encrypted ? 'yes, with age' : 'no'],
    ['SHA-256', facts?.sha256],
    ['to know', [...(source?.warnings ?? []), ...backup.problems]],
  ]);
  if (facts === undefined) return `${text}\n\nNothing more is known without reading it: "cellar verify" does.`;
  const tables = output.table<{ readonly schema: string; readonly name: string; readonly rows: number }>(
    [
      { head: 'table', value: (table) => `${table.schema}.${table.name}`, stretch: true },
      { head: 'rows', value: ({ rows }) => formatCount(rows), align: 'right' },
    ],
    facts.script.tables,
  );
  return `${text}\n\n${tables}`;
}
