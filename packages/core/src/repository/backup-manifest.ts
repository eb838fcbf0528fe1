/**
 * The manifest: what a backup is, what it holds and where. Its object is written last, and its existence is the backup.
 * Format: docs/repository-format.md, section 6.
 */
import { z } from 'zod';
import type { DumpOptions, Entry, SourceFacts } from '../engine/engine.ts';
import type { Json } from '../json.ts';
import { isObjectName, type ObjectName, type Storage } from '../storage/storage.ts';
import type { Subkeys } from './crypto.ts';
import { type BackupName, damaged, FORMAT_VERSION, isUlid, MAX_PACK_BYTES, parsePackName } from './format.ts';
import { loadDocument } from './sealed-document.ts';

/** Part of an entry's stream: its chunks in order, as pages of a recipe. */
export interface StoredSegment {
  readonly bytes: number;
  readonly chunks: number;
  /** SHA-256 over the ids and lengths of its chunks, 64 hex digits. */
  readonly digest: string;
  /** 0: `refs` are the chunks. 1: `refs` are pages that hold them. */
  readonly level: 0 | 1;
  /** Base64 of pages; empty when there are no bytes. */
  readonly refs: string;
}

export interface StoredEntry extends Entry {
  readonly bytes: number;
  /** SHA-256 over the segments' digests, 64 hex digits. */
  readonly digest: string;
  readonly segments: readonly StoredSegment[];
}

export interface StoredPack {
  readonly id: string;
  readonly object: ObjectName;
  readonly size: number;
  /** Of the whole object, 64 hex digits; null where the writer reused an upload that it did not see whole. */
  readonly sha256: string | null;
  /** Bytes of its frames. */
  readonly contentBytes: number;
  /** Of those, what this backup uses. */
  readonly referencedBytes: number;
}

export interface BackupStats {
  /** Bytes of all entries. */
  readonly rawBytes: number;
  /** Of those, what had to be stored. */
  readonly newRawBytes: number;
  /** Bytes of the packs that were written for it. */
  readonly newStoredBytes: number;
  /** Of the raw bytes, what was stored already. */
  readonly reusedBytes: number;
}

export interface BackupManifest {
  readonly format: typeof FORMAT_VERSION;
  /** ULID; also the name of the run that wrote it. */
  readonly id: string;
  /** What the backups of this database are listed under. */
  readonly database: string;
  readonly startedAt: Date;
  readonly createdAt: Date;
  /** The backup that its chunks were compared with. */
  readonly parent: string | null;
  readonly description: string;
  readonly tags: readonly string[];
  readonly source: SourceFacts;
  readonly options: DumpOptions;
  readonly entries: readonly StoredEntry[];
  readonly packs: readonly StoredPack[];
  readonly stats: BackupStats;
}

const count = z.int().nonnegative();
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const ulid = z.string().refine(isUlid, 'it is not a ULID');
const time = z.iso.datetime().transform((text) => new Date(text));
const json: z.ZodType<Json> = z.json();
const tableName = z.object({ schema: z.string(), name: z.string() });

const packObject = z
  .string()
  .refine(isObjectName)
  .refine((name) => parsePackName(name) !== undefined, 'it is not the name of a pack');

const segment: z.ZodType<StoredSegment> = z.object({
  bytes: count,
  chunks: count,
  digest,
  level: z.union([z.literal(0), z.literal(1)]),
  refs: z.string(),
});

const entry: z.ZodType<StoredEntry> = z.object({
  name: z.string().min(1),
  kind: z.enum(['schema', 'rows', 'large-objects', 'globals', 'script']),
  table: tableName.exactOptional(),
  rows: count.exactOptional(),
  locator: json,
  bytes: count,
  digest,
  segments: z.array(segment),
});

const source: z.ZodType<SourceFacts> = z.object({
  engine: z.enum(['postgres']),
  serverVersion: z.string(),
  serverMajor: z.int(),
  database: z.string(),
  host: z.string(),
  port: z.int(),
  encoding: z.string(),
  collate: z.string(),
  ctype: z.string(),
  extensions: z.array(z.object({ name: z.string(), version: z.string(), schema: z.string() })),
  tools: z.record(z.string(), z.string()),
  schemaDigest: z.string(),
  warnings: z.array(z.string()),
  details: json,
});

const patterns = z.array(z.string());

const options: z.ZodType<DumpOptions> = z.object({
  filters: z.object({
    includeSchemas: patterns,
    excludeSchemas: patterns,
    includeTables: patterns,
    excludeTables: patterns,
    excludeTableData: patterns,
    schemaOnly: z.boolean(),
  }),
  globals: z.boolean(),
  jobs: z.int(),
  lockTimeoutMs: z.number(),
  stallTimeoutMs: z.number(),
});

const schema: z.ZodType<BackupManifest> = z.object({
  format: z.literal(FORMAT_VERSION),
  id: ulid,
  database: z.string().min(1),
  startedAt: time,
  createdAt: time,
  parent: ulid.nullable(),
  description: z.string(),
  tags: z.array(z.string()),
  source,
  options,
  entries: z.array(entry),
  packs: z.array(
    z.object({
      id: z.string().regex(/^[0-9a-f]{32}$/),
      object: packObject,
      size: z.int().positive().max(MAX_PACK_BYTES),
      sha256: digest.nullable(),
      contentBytes: count,
      referencedBytes: count,
    }),
  ),
  stats: z.object({ rawBytes: count, newRawBytes: count, newStoredBytes: count, reusedBytes: count }),
});

/** Throws `not-found`, `damaged` or `unsupported-format`, naming the object. */
export async function loadManifest(
  storage: Storage,
  name: BackupName,
  keys: Subkeys,
  signal: AbortSignal,
): Promise<BackupManifest> {
  const manifest = await loadDocument(storage, name.object, keys, schema, signal);
  if (manifest.id !== name.id) throw damaged(name.object, 'it is another backup than its name says');
  return manifest;
}
