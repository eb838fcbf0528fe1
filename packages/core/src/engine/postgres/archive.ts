/**
 * The head of pg_dump's custom archive (`pg_dump -Fc`): its header and table of contents (TOC), as plain values. Source of the
 * layout: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL 13 to 18 (archive versions 1.14 to 1.16).
 *
 *   "PGDMP" version(3) intSize offsetSize format compression time(7) database serverVersion dumpVersion count entry… | data block…
 *
 * Strings stay bytes: they are in the dump's encoding, which need not be UTF-8. The bytes of an entry are kept too, so that an
 * archive can be put together again from entries that nobody has changed.
 */
import { CellarError } from '../../errors.ts';

/** `null` is pg_dump's own null string (length -1); an empty string is a Buffer of length 0. */
export type ArchiveString = Buffer | null;

export type ArchiveVersion = '1.14' | '1.15' | '1.16';

export interface ArchiveHeader {
  readonly version: ArchiveVersion;
  readonly revision: number;
  /** Bytes of an int's magnitude (its sign byte comes on top). */
  readonly intSize: number;
  readonly offsetSize: number;
  /** 1 is the custom format; the reader accepts no other. */
  readonly format: number;
  /** 0: data blocks are stored as they are. An int up to 1.14 (zlib level, -1 its default), an algorithm's number from 1.15. */
  readonly compression: number;
  /** seconds, minutes, hours, day, month - 1, year - 1900, daylight saving: the local time of the dump. */
  readonly time: readonly number[];
  readonly database: ArchiveString;
  readonly serverVersion: ArchiveString;
  readonly dumpVersion: ArchiveString;
  readonly entryCount: number;
}

/** 1 none (inherits from the entry before), 2 pre-data, 3 data, 4 post-data. */
export type ArchiveSection = 1 | 2 | 3 | 4;

export const SECTION_NONE = 1;
export const SECTION_PRE_DATA = 2;
export const SECTION_DATA = 3;
export const SECTION_POST_DATA = 4;

/** Offset flags: whether and how the place of an entry's data block is known. */
export const OFFSET_NOT_SET = 1;
export const OFFSET_SET = 2;
export const OFFSET_NO_DATA = 3;

export interface TocEntry {
  readonly dumpId: number;
  /** A data block of this dump id follows the TOC. */
  readonly hasData: boolean;
  /** Oid of the catalog that the object is a row of, in decimal digits. */
  readonly catalogOid: ArchiveString;
  /** Oid of the object, in decimal digits. */
  readonly oid: ArchiveString;
  readonly tag: ArchiveString;
  readonly description: ArchiveString;
  readonly section: ArchiveSection;
  readonly definition: ArchiveString;
  readonly dropStatement: ArchiveString;
  readonly copyStatement: ArchiveString;
  readonly namespace: ArchiveString;
  readonly tablespace: ArchiveString;
  readonly tableAccessMethod: ArchiveString;
  /** From 1.16 on. */
  readonly relationKind: number | undefined;
  readonly owner: ArchiveString;
  readonly withOids: ArchiveString;
  /** Dump ids in decimal digits. */
  readonly dependencies: readonly Buffer[];
  readonly offsetFlag: number;
  /** The place of the data block in a file: *offset size* bytes, little-endian. */
  readonly offset: Buffer;
  /** The entry as it stands in the TOC. */
  readonly raw: Buffer;
}

export interface ArchiveToc {
  readonly header: ArchiveHeader;
  readonly entries: readonly TocEntry[];
  /** Bytes from the start of the archive to the end of the last entry. */
  readonly length: number;
}

/** Data block types. */
export const BLOCK_DATA = 1;
export const BLOCK_LARGE_OBJECTS = 3;

/** What a data block's copy text ends with in an archive; stored rows are without it. */
export const COPY_TERMINATOR = Buffer.from('\\.\n\n\n', 'latin1');

/** The entries' sections with `none` resolved to that of the entry before, as pg_restore does. */
export function effectiveSections(entries: readonly TocEntry[]): readonly ArchiveSection[] {
  let last: ArchiveSection = SECTION_PRE_DATA;
  return entries.map((entry) => {
    if (entry.section !== SECTION_NONE) last = entry.section;
    return last;
  });
}

/** A string of the archive for comparing with ASCII words and for showing; other bytes may not be text in UTF-8. */
export function archiveText(value: ArchiveString): string {
  return value === null ? '' : value.toString('utf8');
}

/** Thrown within the parser where the bytes given end before the TOC does. */
class MoreBytesNeeded extends Error {}

/**
 * Parses the head of an archive. Returns undefined when `bytes` ends before the TOC does: give more.
 * Throws `unsupported-format` for versions and formats it does not know, `damaged` for nonsense.
 */
export function parseArchiveToc(bytes: Buffer): ArchiveToc | undefined {
  const cursor = new Cursor(bytes);
  try {
    const header = readHeader(cursor);
    const entries: TocEntry[] = [];
    for (let index = 0; index < header.entryCount; index++) entries.push(readEntry(cursor, header));
    return { header, entries, length: cursor.position };
  } catch (error) {
    if (error instanceof MoreBytesNeeded) return undefined;
    throw error;
  }
}

class Cursor {
  readonly bytes: Buffer;
  position = 0;
  intSize = 4;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  take(length: number): Buffer {
    const end = this.position + length;
    if (end > this.bytes.length) throw new MoreBytesNeeded();
    const piece = this.bytes.subarray(this.position, end);
    this.position = end;
    return piece;
  }

  byte(): number {
    const value = this.bytes[this.position];
    if (value === undefined) throw new MoreBytesNeeded();
    this.position++;
    return value;
  }

  int(): number {
    const sign = this.byte();
    const magnitude = this.take(this.intSize);
    let value = 0;
    for (let index = this.intSize - 1; index >= 0; index--) value = value * 256 + (magnitude[index] ?? 0);
    if (sign > 1 || !Number.isSafeInteger(value)) throw damagedToc('an integer is malformed');
    return sign === 1 ? -value : value;
  }

  string(): ArchiveString {
    const length = this.int();
    if (length < -1) throw damagedToc('a string has a negative length');
    return length === -1 ? null : this.take(length);
  }
}

function readHeader(cursor: Cursor): ArchiveHeader {
  if (cursor.take(5).toString('latin1') !== 'PGDMP') {
    throw new CellarError(
      'unsupported-format',
      'These bytes are not a custom archive of pg_dump: the mark PGDMP is missing.',
      {
        hint: 'Give an archive made with pg_dump -Fc.',
      },
    );
  }
  const version = `${cursor.byte()}.${cursor.byte()}`;
  if (version !== '1.14' && version !== '1.15' && version !== '1.16') {
    throw new CellarError(
      'unsupported-format',
      `The archive of pg_dump has version ${version}, which Cellar does not know.`,
      {
        hint: 'Cellar reads versions 1.14 to 1.16 (PostgreSQL 12 to 18); use the pg_dump of one of these, or a newer Cellar.',
      },
    );
  }
  const revision = cursor.byte();
  const intSize = cursor.byte();
  const offsetSize = cursor.byte();
  const format = cursor.byte();
  if (format !== 1) {
    throw new CellarError('unsupported-format', 'The archive of pg_dump is not in the custom format.', {
      hint: 'Give an archive made with pg_dump -Fc.',
    });
  }
  if (intSize < 1 || intSize > 8 || offsetSize < 1 || offsetSize > 8)
    throw damagedToc('its integer sizes are impossible');
  cursor.intSize = intSize;
  const compression = version === '1.14' ? cursor.int() : cursor.byte();
  const time = Array.from({ length: 7 }, () => cursor.int());
  const database = cursor.string();
  const serverVersion = cursor.string();
  const dumpVersion = cursor.string();
  const entryCount = cursor.int();
  if (entryCount < 0) throw damagedToc('it counts fewer than no entries');
  return {
    version,
    revision,
    intSize,
    offsetSize,
    format,
    compression,
    time,
    database,
    serverVersion,
    dumpVersion,
    entryCount,
  };
}

function readEntry(cursor: Cursor, header: ArchiveHeader): TocEntry {
  const start = cursor.position;
  const dumpId = cursor.int();
  if (dumpId <= 0) throw damagedToc('an entry has an impossible id');
  const hasData = cursor.int() !== 0;
  const catalogOid = cursor.string();
  const oid = cursor.string();
  const tag = cursor.string();
  const description = cursor.string();
  const section = cursor.int();
  if (section !== 1 && section !== 2 && section !== 3 && section !== 4) throw damagedToc('an entry is in no section');
  const definition = cursor.string();
  const dropStatement = cursor.string();
  const copyStatement = cursor.string();
  const namespace = cursor.string();
  const tablespace = cursor.string();
  const tableAccessMethod = cursor.string();
  const relationKind = header.version === '1.16' ? cursor.int() : undefined;
  const owner = cursor.string();
  const withOids = cursor.string();
  const dependencies: Buffer[] = [];
  for (let dependency = cursor.string(); dependency !== null; dependency = cursor.string())
    dependencies.push(dependency);
  const offsetFlag = cursor.byte();
  const offset = cursor.take(header.offsetSize);
  const raw = cursor.bytes.subarray(start, cursor.position);
  return {
    dumpId,
    hasData,
    catalogOid,
    oid,
    tag,
    description,
    section,
    definition,
    dropStatement,
    copyStatement,
    namespace,
    tablespace,
    tableAccessMethod,
    relationKind,
    owner,
    withOids,
    dependencies,
    offsetFlag,
    offset,
    raw,
  };
}

function damagedToc(what: string): CellarError {
  return new CellarError('damaged', `The table of contents of the archive is damaged: ${what}.`);
}
