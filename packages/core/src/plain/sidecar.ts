/**
 * The sidecar of a plain file: human-readable JSON beside it, with what the file is. Its first keys are those of the older
 * application, whose clients read them; the rest is ours. What people or that application left there is taken for what it is worth: a
 * sidecar never decides whether a file is a backup, only what is known of it.
 */
import { z } from 'zod';
import type { DumpFilters, ScriptLocator, SourceFacts } from '../engine/engine.ts';
import type { Json } from '../json.ts';
import type { Compression } from './compression.ts';

export const SIDECAR_FORMAT = 'cellar-plain-file';
export const SIDECAR_VERSION = 1;

export type PlainEncryption =
  | { readonly kind: 'none' }
  /** Public keys. */
  | { readonly kind: 'age-recipients'; readonly recipients: readonly string[] }
  | { readonly kind: 'age-passphrase' };

/** What our own sidecars say beyond the older application's keys. */
export interface PlainFacts {
  /** Of the file as it is stored, hex. */
  readonly sha256: string;
  /** Bytes of the script itself. */
  readonly scriptBytes: number;
  readonly compression: Compression;
  readonly encryption: PlainEncryption;
  readonly source: SourceFacts;
  readonly script: ScriptLocator;
  readonly filters: DumpFilters;
}

/** What any sidecar says; undefined where it says nothing, or nothing sensible. */
export interface Sidecar {
  readonly createdAt: Date | undefined;
  readonly description: string | undefined;
  readonly sizeBytes: number | undefined;
  readonly databaseName: string | undefined;
  readonly databaseHost: string | undefined;
  /** Only of our own sidecars. */
  readonly facts: PlainFacts | undefined;
  /** What is wrong with it, as sentences. */
  readonly problems: readonly string[];
}

export interface SidecarBasics {
  readonly fileName: string;
  readonly timestamp: string;
  readonly createdAt: Date;
  readonly description: string;
  readonly sizeBytes: number;
}

const count = z.number().int().nonnegative();

const sourceSchema = z.object({
  engine: z.literal('postgres'),
  server_version: z.string(),
  server_major: count,
  database: z.string(),
  host: z.string(),
  port: count,
  encoding: z.string(),
  collate: z.string(),
  ctype: z.string(),
  extensions: z.array(z.object({ name: z.string(), version: z.string(), schema: z.string() })),
  tools: z.record(z.string(), z.string()),
  schema_digest: z.string(),
  warnings: z.array(z.string()),
  details: z.json(),
});

const filtersSchema = z.object({
  include_schemas: z.array(z.string()),
  exclude_schemas: z.array(z.string()),
  include_tables: z.array(z.string()),
  exclude_tables: z.array(z.string()),
  exclude_table_data: z.array(z.string()),
  schema_only: z.boolean(),
});

const factsSchema = z.object({
  format: z.literal(SIDECAR_FORMAT),
  format_version: z.literal(SIDECAR_VERSION),
  complete: z.literal(true),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  script_bytes: count,
  compression: z.enum(['gzip', 'zstd']),
  encryption: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('none') }),
    z.object({ kind: z.literal('age-recipients'), recipients: z.array(z.string()) }),
    z.object({ kind: z.literal('age-passphrase') }),
  ]),
  tables: z.array(z.object({ schema: z.string(), name: z.string(), rows: count })),
  large_objects: count,
  script: z.object({ server_version: z.string(), tool_version: z.string(), encoding: z.string() }),
  source: sourceSchema,
  filters: filtersSchema,
});

/** The older application's keys: each is taken if it is what it should be, and left otherwise. */
const basicsSchema = z.looseObject({
  filename: z.string().optional().catch(undefined),
  created_at: z.string().optional().catch(undefined),
  description: z.string().nullish().catch(undefined),
  size_bytes: count.optional().catch(undefined),
  database_name: z.string().optional().catch(undefined),
  database_host: z.string().optional().catch(undefined),
  format: z.string().optional().catch(undefined),
  format_version: z.number().optional().catch(undefined),
});

export function writeSidecar(basics: SidecarBasics, facts: PlainFacts): string {
  const { source, script, filters } = facts;
  const document: z.input<typeof factsSchema> & Record<string, Json> = {
    filename: basics.fileName,
    timestamp: basics.timestamp,
    created_at: basics.createdAt.toISOString(),
    description: basics.description,
    size_bytes: basics.sizeBytes,
    database_name: source.database,
    database_host: source.host,
    format: SIDECAR_FORMAT,
    format_version: SIDECAR_VERSION,
    complete: true,
    sha256: facts.sha256,
    script_bytes: facts.scriptBytes,
    compression: facts.compression,
    encryption:
      facts.encryption.kind === 'age-recipients'
        ? { kind: facts.encryption.kind, recipients: [...facts.encryption.recipients] }
        : { kind: facts.encryption.kind },
    tables: script.tables.map(({ schema, name, rows }) => ({ schema, name, rows })),
    large_objects: script.largeObjects,
    script: { server_version: script.serverVersion, tool_version: script.toolVersion, encoding: script.encoding },
    source: {
      engine: source.engine,
      server_version: source.serverVersion,
      server_major: source.serverMajor,
      database: source.database,
      host: source.host,
      port: source.port,
      encoding: source.encoding,
      collate: source.collate,
      ctype: source.ctype,
      extensions: source.extensions.map(({ name, version, schema }) => ({ name, version, schema })),
      tools: { ...source.tools },
      schema_digest: source.schemaDigest,
      warnings: [...source.warnings],
      details: JSON.parse(JSON.stringify(source.details)),
    },
    filters: {
      include_schemas: [...filters.includeSchemas],
      exclude_schemas: [...filters.excludeSchemas],
      include_tables: [...filters.includeTables],
      exclude_tables: [...filters.excludeTables],
      exclude_table_data: [...filters.excludeTableData],
      schema_only: filters.schemaOnly,
    },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** Never throws: what cannot be read is a problem, and the file it lies beside remains a backup. */
export function readSidecar(text: string, fileName: string): Sidecar {
  const parsed = parseJson(text);
  const basics = basicsSchema.safeParse(parsed);
  if (!basics.success) return { ...NOTHING, problems: ['The sidecar is not a JSON object.'] };
  const { filename, created_at, description, size_bytes, database_name, database_host, format, format_version } =
    basics.data;
  if (filename !== undefined && filename !== fileName) {
    return { ...NOTHING, problems: [`The sidecar is that of another file, ${JSON.stringify(filename)}.`] };
  }
  const known = {
    createdAt: created_at === undefined ? undefined : parseTime(created_at),
    description: description ?? undefined,
    sizeBytes: size_bytes,
    databaseName: database_name,
    databaseHost: database_host,
  };
  if (format !== SIDECAR_FORMAT) return { ...known, facts: undefined, problems: [] };
  const facts = factsSchema.safeParse(parsed);
  if (facts.success) return { ...known, facts: factsOf(facts.data), problems: [] };
  const why =
    format_version !== undefined && format_version > SIDECAR_VERSION
      ? 'The sidecar was written by a newer version of Cellar.'
      : `The sidecar is broken at ${facts.error.issues[0]?.path.join('.') ?? 'its root'}.`;
  return { ...known, facts: undefined, problems: [why] };
}

const NOTHING: Omit<Sidecar, 'problems'> = {
  createdAt: undefined,
  description: undefined,
  sizeBytes: undefined,
  databaseName: undefined,
  databaseHost: undefined,
  facts: undefined,
};

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\ufeff/, ''));
  } catch {
    return undefined;
  }
}

/** ISO 8601 as Python writes it too: with a blank for the T, microseconds, and, when it says no zone, UTC. */
function parseTime(text: string): Date | undefined {
  const [, date, clock, zone] =
    /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|[+-]\d\d:?\d\d)?$/i.exec(text.trim()) ?? [];
  if (date === undefined || clock === undefined) return undefined;
  const offset = zone === undefined ? 'Z' : zone.replace(/^([+-]\d\d):?(\d\d)$/, '$1:$2').toUpperCase();
  const time = new Date(`${date}T${clock.replace(/(\.\d{3})\d+$/, '$1')}${offset}`);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

function factsOf(document: z.output<typeof factsSchema>): PlainFacts {
  const { source, filters, script } = document;
  return {
    sha256: document.sha256,
    scriptBytes: document.script_bytes,
    compression: document.compression,
    encryption: document.encryption,
    script: {
      tables: document.tables,
      largeObjects: document.large_objects,
      serverVersion: script.server_version,
      toolVersion: script.tool_version,
      encoding: script.encoding,
      complete: true,
    },
    source: {
      engine: source.engine,
      serverVersion: source.server_version,
      serverMajor: source.server_major,
      database: source.database,
      host: source.host,
      port: source.port,
      encoding: source.encoding,
      collate: source.collate,
      ctype: source.ctype,
      extensions: source.extensions,
      tools: source.tools,
      schemaDigest: source.schema_digest,
      warnings: source.warnings,
      details: source.details,
    },
    filters: {
      includeSchemas: filters.include_schemas,
      excludeSchemas: filters.exclude_schemas,
      includeTables: filters.include_tables,
      excludeTables: filters.exclude_tables,
      excludeTableData: filters.exclude_table_data,
      schemaOnly: filters.schema_only,
    },
  };
}
