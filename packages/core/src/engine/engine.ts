/**
 * The engine port: what a database family must offer to be backed up and restored.
 *
 * A dump is a set of *tasks* over one consistent view of the source. Each task is plain data, so that a worker thread can run it,
 * and yields *parts*: segments of entries. All segments of an entry, concatenated in order, are the entry's bytes.
 *
 *   open ─▶ Dump { source, tasks } ─▶ read(task) ─▶ parts ─▶ (chunker, repository) ─▶ Dump.finish(results) ─▶ entries
 *   restore ◀─ BackupContents { source, entries, open(entry) } ◀─ (repository or plain file)
 *
 * Differences between engines are capability flags; nothing outside `engine/` asks which engine it has.
 */
import type { Json } from '../json.ts';
import type { OnProgress } from '../progress.ts';

export type EngineId = 'postgres';

export type EntryKind = 'schema' | 'rows' | 'large-objects' | 'globals' | 'script';

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** A named stream of a backup, as a dump reports it and a restore needs it. */
export interface Entry {
  /** Unique within the backup and stable from one backup to the next: `schema`, `public.orders`, `large-objects`, `globals`, … */
  readonly name: string;
  readonly kind: EntryKind;
  readonly table?: TableName;
  /** Exact number of rows (of large objects), as the dump's own transaction saw them. */
  readonly rows?: number;
  /** What the engine needs to put the entry back; opaque to everyone else. */
  readonly locator: Json;
}

/** What the source was at the moment of the dump. Kept in the manifest; never holds a secret. */
export interface SourceFacts {
  readonly engine: EngineId;
  /** As the server says it, e.g. `15.18`. */
  readonly serverVersion: string;
  readonly serverMajor: number;
  readonly database: string;
  readonly host: string;
  readonly port: number;
  readonly encoding: string;
  readonly collate: string;
  readonly ctype: string;
  readonly extensions: readonly { readonly name: string; readonly version: string; readonly schema: string }[];
  /** Tool name → version, e.g. `pg_dump` → `15.18`. */
  readonly tools: Readonly<Record<string, string>>;
  /** Digest of the schema alone: equal for two dumps of the same definitions. Empty until the dump has finished. */
  readonly schemaDigest: string;
  /** What is true of this source and a person should know: unlogged data missing on a standby, prepared transactions, … */
  readonly warnings: readonly string[];
  /** Engine's own further facts: owner, ACL, comment, connection limit, settings, locale provider, publications, … */
  readonly details: Json;
}

export interface DumpFilters {
  /** Patterns as the stock tools take them (`schema`, `schema.table`, with `*` and `?`). Empty: everything. */
  readonly includeSchemas: readonly string[];
  readonly excludeSchemas: readonly string[];
  readonly includeTables: readonly string[];
  readonly excludeTables: readonly string[];
  /** Tables whose definition is kept and whose rows are not. */
  readonly excludeTableData: readonly string[];
  readonly schemaOnly: boolean;
}

export const NO_FILTERS: DumpFilters = {
  includeSchemas: [],
  excludeSchemas: [],
  includeTables: [],
  excludeTables: [],
  excludeTableData: [],
  schemaOnly: false,
};

export interface DumpOptions {
  readonly filters: DumpFilters;
  /** Roles and tablespaces too. */
  readonly globals: boolean;
  /** How many tasks will be read at once: the engine cuts its work accordingly. */
  readonly jobs: number;
  readonly lockTimeoutMs: number;
  /** A task without a byte for this long is given up (`stalled`). */
  readonly stallTimeoutMs: number;
}

/** One piece of a dump's work. Plain data (structured clone), secrets included: it never leaves the process. */
export interface DumpTask {
  readonly engine: EngineId;
  /** For people: the table, or what the task covers. */
  readonly title: string;
  /** Bytes expected, for ordering and progress; an estimate. */
  readonly estimatedBytes: number;
  readonly spec: unknown;
}

/** A segment of an entry while it is read. */
export interface DumpPart {
  readonly entry: string;
  readonly kind: EntryKind;
  readonly table?: TableName;
  /** Position of this segment in its entry, from 0. */
  readonly segment: number;
  /** To be read to its end before the next part is asked for. A yielded array is valid until the next one is asked for. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Facts known once `bytes` has ended: throws before. */
  result(): PartResult;
}

/** What is left of a part when its bytes are through: plain data. */
export interface PartResult {
  readonly entry: string;
  readonly kind: EntryKind;
  readonly table?: TableName;
  readonly segment: number;
  readonly rows?: number;
  readonly bytes: number;
  readonly locator: Json;
}

/** A consistent view of the source, held open until disposed. */
export interface Dump extends AsyncDisposable {
  readonly source: SourceFacts;
  readonly tasks: readonly DumpTask[];
  /** Aborted with the reason when the view is lost (its connection was cut): every task's result is then worthless. */
  readonly lost: AbortSignal;
  /**
   * To be called when all tasks have ended well. Checks that every table came exactly once and whole, and the view was held to the
   * end. Returns the entries in restore order, and the source facts with what only the dump could tell (`schemaDigest`, warnings).
   */
  finish(
    parts: readonly PartResult[],
    signal: AbortSignal,
  ): Promise<{ readonly source: SourceFacts; readonly entries: readonly Entry[] }>;
}

/** What a restore reads from: a backup in a repository, or a plain file. */
export interface BackupContents {
  readonly source: SourceFacts;
  readonly entries: readonly Entry[];
  /** Which part of its database it holds, as `partOf` says it; absent: all of it, as far as is known. */
  readonly part?: string | undefined;
  /** Bytes of an entry (exact), for progress; undefined where a plain file does not tell. */
  sizeOf(entry: Entry): number | undefined;
  /** The entry's bytes, checked as they are read. May be opened for several entries at once. */
  open(entry: Entry, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export type RestoreMode = 'swap' | 'in-place' | 'new';

export interface RestoreOptions {
  readonly mode: RestoreMode;
  /** Chosen tables (exact names) with their indexes and constraints; undefined: the whole backup. Needs mode `in-place` or `new`. */
  readonly tables?: readonly TableName[];
  /** With `tables`: the schema to restore them into, when not their own. */
  readonly intoSchema?: string;
  readonly content: 'all' | 'schema' | 'data';
  readonly owners: 'keep' | 'drop';
  readonly privileges: 'keep' | 'drop';
  /** Roles and tablespaces of the backup too, those that are missing. */
  readonly globals: boolean;
  /** Replaces a whole database also by a backup that holds only a part of one (`BackupContents.part`), which is refused otherwise. */
  readonly acceptPart?: boolean;
  readonly jobs: number;
  /** Compare row digests of every table with the stored streams, not only counts. */
  readonly prove: boolean;
  readonly stallTimeoutMs: number;
  /** Named into what is kept (`shop_before_20241108_131200`): the time of the restore. */
  readonly now: Date;
}

export interface RestoredTable {
  readonly table: TableName;
  readonly expectedRows: number | undefined;
  readonly restoredRows: number;
  /** With `prove`: the order-independent digest that the stored stream and the restored table share. */
  readonly rowDigest?: string;
}

export interface RestoreReport {
  readonly mode: RestoreMode;
  readonly database: string;
  /** The database that was replaced, under its new name, and how to go back or remove it. */
  readonly previous?: {
    readonly database: string;
    readonly goBack: readonly string[];
    readonly remove: readonly string[];
  };
  readonly tables: readonly RestoredTable[];
  readonly phases: readonly { readonly phase: string; readonly seconds: number }[];
  readonly warnings: readonly string[];
}

export interface ProbeReport {
  readonly source: SourceFacts;
  readonly sizeBytes: number;
  readonly tableCount: number;
  /** Rows estimated by the server's statistics. */
  readonly estimatedRows: number;
  /** What stands against a complete backup as this user, each with what to do. Empty: nothing. */
  readonly problems: readonly { readonly what: string; readonly todo: string }[];
}

export type ExportFormat = 'sql' | 'dump';

export interface Engine {
  readonly id: EngineId;
  /** URL schemes with colon, e.g. `postgres:`. */
  readonly schemes: readonly string[];
  readonly capabilities: {
    /** One table can be read by several tasks. */
    readonly splitsTables: boolean;
    /** A restore can be prepared beside the live database and swapped in. */
    readonly swap: boolean;
  };

  /** The database's name and host out of a URL, without connecting. Throws `invalid-input`, never quoting a password. */
  describe(url: string): { readonly database: string; readonly host: string; readonly port: number };

  /** Connects and says what is there and what would be missing from a backup. */
  probe(url: string, signal: AbortSignal): Promise<ProbeReport>;

  /** Opens a consistent view for a dump in parts. */
  openDump(url: string, options: DumpOptions, signal: AbortSignal): Promise<Dump>;

  /** Runs one task of an open dump; in whatever thread. An abort ends the connection or kills the process group. */
  read(task: DumpTask, signal: AbortSignal): AsyncIterable<DumpPart>;

  /**
   * Dumps as one script that the engine's stock client restores alone (for plain files). A dump with one task that yields one part
   * of kind `script`; `finish` gives it with exact rows per table in the locator (see `ScriptLocator`).
   */
  openScriptDump(url: string, options: DumpOptions, signal: AbortSignal): Promise<Dump>;

  /** Reads a script of unknown origin to its end: facts, rows per table, whether it is complete. Throws `damaged` where it is cut. */
  inspectScript(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<ScriptLocator>;

  /** See the modes in `architecture.md`. Anything that goes wrong leaves the target as it was. */
  restore(
    url: string,
    contents: BackupContents,
    options: RestoreOptions,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<RestoreReport>;

  /**
   * The facts without what may be secret: for the sidecar of an encrypted file, which is not encrypted itself. What is left out, and would
   * be missed at a restore, is told in its warnings.
   */
  publicFacts(source: SourceFacts): SourceFacts;

  /** The backup as one file of the engine's stock tools: a script, or an archive. */
  export(contents: BackupContents, format: ExportFormat, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Locator of a `script` entry: what the script holds, by reading it. */
export interface ScriptLocator {
  readonly tables: readonly { readonly schema: string; readonly name: string; readonly rows: number }[];
  readonly largeObjects: number;
  /** As the script's own header says it, '' where it does not. */
  readonly serverVersion: string;
  readonly toolVersion: string;
  /** The encoding its bytes are in, as it sets it (`UTF8`); '' where it does not. */
  readonly encoding: string;
  /** Always true for a returned locator; kept so that a sidecar says it. */
  readonly complete: true;
}
