/**
 * A backup of PostgreSQL as a restore sees it: the parsed table of contents (TOC) of its `schema` entry, and for each stored stream
 * of rows the COPY statement that loads it and the table that it belongs to.
 */
import { CellarError } from '../../errors.ts';
import type { BackupContents, Entry, TableName } from '../engine.ts';
import {
  type ArchiveSection,
  type ArchiveString,
  type ArchiveToc,
  archiveText,
  effectiveSections,
  parseArchiveToc,
  type TocEntry,
} from './archive.ts';
import { parseLargeObjectsLocator, parseRowsLocator } from './locator.ts';
import { decodeName } from './script-encoding.ts';

export interface StoredRows {
  readonly entry: Entry;
  readonly table: TableName;
  readonly expectedRows: number;
  /** Bytes of COPY text, where known. */
  readonly size: number | undefined;
  /** In the dump's encoding, `COPY schema.table (…) FROM stdin;` and a newline. */
  readonly copyStatement: Buffer;
  /** The statement's table as it is written in it. */
  readonly copyTarget: Buffer;
  /** The TABLE entry; undefined for an extension's own table, which the archive does not define. */
  readonly tableEntry: TocEntry | undefined;
  /** The statement names the table's partition root: rows may land in another partition than they came from. */
  readonly viaRoot: boolean;
  readonly tableOid: number;
  /** Of the TABLE DATA entry in the TOC, where pg_dump wrote one. */
  readonly dataEntry: TocEntry | undefined;
}

export interface StoredLargeObjects {
  readonly entry: Entry;
  /** The BLOBS entries whose block contents follow each other in the stream. */
  readonly dataEntries: readonly TocEntry[];
}

export interface StoredArchive {
  readonly contents: BackupContents;
  readonly toc: ArchiveToc;
  /** By position in `toc.entries`. */
  readonly sections: readonly ArchiveSection[];
  readonly rows: readonly StoredRows[];
  readonly largeObjects: readonly StoredLargeObjects[];
  readonly globals: Entry | undefined;
  /** Of all text in the archive, by PostgreSQL's name: `UTF8`, `LATIN1`. */
  readonly encoding: string;
}

/** Text of the archive as it reads: names for the server, which hears them in UTF-8. */
export function storedText({ encoding }: StoredArchive, value: ArchiveString): string {
  return value === null ? '' : decodeName(value.toString('latin1'), encoding);
}

/** More than any schema; guards against a swapped entry. */
const MAX_SCHEMA_BYTES = 1024 * 1024 * 1024;

/** Reads and parses the definitions. Throws `damaged` when they and the entries do not fit each other. */
export async function readStoredArchive(contents: BackupContents, signal: AbortSignal): Promise<StoredArchive> {
  const schema = contents.entries.find(({ kind }) => kind === 'schema');
  if (schema === undefined)
    throw new CellarError('damaged', 'The backup has no definitions: its entry `schema` is missing.');
  const bytes = await collect(contents.open(schema, signal), MAX_SCHEMA_BYTES);
  const toc = parseArchiveToc(bytes);
  if (toc === undefined || toc.length !== bytes.length) {
    throw new CellarError('damaged', 'The definitions in the backup are cut or have something after their end.');
  }
  const byId = new Map(toc.entries.map((entry) => [entry.dumpId, entry] as const));
  return {
    contents,
    toc,
    sections: effectiveSections(toc.entries),
    rows: contents.entries.filter(({ kind }) => kind === 'rows').map((entry) => storedRows(contents, entry, byId)),
    largeObjects: contents.entries
      .filter(({ kind }) => kind === 'large-objects')
      .map((entry) => ({
        entry,
        dataEntries: parseLargeObjectsLocator(entry).dumpIds.map((id) => byId.get(id) ?? misfit(entry)),
      })),
    globals: contents.entries.find(({ kind }) => kind === 'globals'),
    encoding: encodingOf(toc) ?? contents.source.encoding,
  };
}

/** `LATIN1` of `SET client_encoding = 'LATIN1';`. */
function encodingOf({ entries }: ArchiveToc): string | undefined {
  const entry = entries.find(({ description }) => archiveText(description) === 'ENCODING');
  return /client_encoding = '([^']*)'/.exec(archiveText(entry?.definition ?? null))?.[1];
}

function storedRows(contents: BackupContents, entry: Entry, byId: ReadonlyMap<number, TocEntry>): StoredRows {
  const { table, rows } = entry;
  if (table === undefined || rows === undefined) misfit(entry);
  const locator = parseRowsLocator(entry);
  const isTable = (candidate: TocEntry | undefined) => archiveText(candidate?.description ?? null) === 'TABLE';
  let tableEntry: TocEntry | undefined;
  let dataEntry: TocEntry | undefined;
  let copyStatement: Buffer;
  if (locator.from === 'archive') {
    dataEntry = byId.get(locator.dumpId);
    if (archiveText(dataEntry?.description ?? null) !== 'TABLE DATA') misfit(entry);
    copyStatement = dataEntry?.copyStatement ?? misfit(entry);
    tableEntry = dataEntry?.dependencies.map((id) => byId.get(Number(id))).find(isTable);
  } else {
    tableEntry = byId.get(locator.tableDumpId);
    if (!isTable(tableEntry)) misfit(entry);
    copyStatement = Buffer.from(locator.copyStatement, 'base64');
  }
  const target = parseCopyTarget(copyStatement) ?? misfit(entry);
  const own = tableEntry ?? dataEntry;
  return {
    entry,
    table,
    expectedRows: rows,
    size: contents.sizeOf(entry),
    copyStatement,
    copyTarget: target.written,
    tableEntry,
    tableOid: locator.from === 'copy' ? locator.tableOid : Number(archiveText(dataEntry?.oid ?? null)),
    viaRoot: own !== undefined && !(target.schema.equals(own.namespace ?? none) && target.name.equals(own.tag ?? none)),
    dataEntry,
  };
}

const none = Buffer.alloc(0);

function misfit(entry: Entry): never {
  throw new CellarError('damaged', `The backup's entry ${entry.name} does not fit the definitions in it.`, {
    details: { entry: entry.name },
  });
}

export interface CopyTarget {
  /** `schema.table` as the statement has it, quotes and all. */
  readonly written: Buffer;
  readonly schema: Buffer;
  readonly name: Buffer;
}

const QUOTE = 0x22;
const DOT = 0x2e;

/** The table of pg_dump's `COPY schema.table (…) FROM stdin;`, or undefined when the bytes are no such statement. */
export function parseCopyTarget(statement: Buffer): CopyTarget | undefined {
  const start = 'COPY '.length;
  if (statement.toString('latin1', 0, start) !== 'COPY ' || !isCopyFromStdin(statement)) return undefined;
  const schema = readIdentifier(statement, start);
  if (schema === undefined || statement[schema.end] !== DOT) return undefined;
  const name = readIdentifier(statement, schema.end + 1);
  if (name === undefined) return undefined;
  return { written: statement.subarray(start, name.end), schema: schema.value, name: name.value };
}

const FROM_STDIN = 'FROM stdin;\n';

function isCopyFromStdin(statement: Buffer): boolean {
  return statement.toString('latin1', statement.length - FROM_STDIN.length) === FROM_STDIN;
}

/** The statement with options, e.g. `WITH (FREEZE)`. */
export function copyWith(statement: Buffer, options: string): Buffer {
  return Buffer.concat([
    statement.subarray(0, statement.length - FROM_STDIN.length),
    Buffer.from(`FROM stdin ${options};\n`, 'latin1'),
  ]);
}

function readIdentifier(bytes: Buffer, start: number): { readonly value: Buffer; readonly end: number } | undefined {
  if (bytes[start] !== QUOTE) {
    let end = start;
    while (end < bytes.length && isPlainIdentifierByte(bytes[end] ?? 0)) end++;
    return end === start ? undefined : { value: bytes.subarray(start, end), end };
  }
  const value: number[] = [];
  for (let index = start + 1; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    if (byte !== QUOTE) {
      value.push(byte);
    } else if (bytes[index + 1] === QUOTE) {
      value.push(QUOTE);
      index++;
    } else {
      return { value: Buffer.from(value), end: index + 1 };
    }
  }
  return undefined;
}

/** pg_dump quotes every name that is not of `a-z0-9_`. */
function isPlainIdentifierByte(byte: number): boolean {
  return (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x5f;
}

async function collect(bytes: AsyncIterable<Uint8Array>, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of bytes) {
    size += piece.length;
    if (size > limit) throw new CellarError('damaged', 'The definitions in the backup are larger than can be.');
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces, size);
}
