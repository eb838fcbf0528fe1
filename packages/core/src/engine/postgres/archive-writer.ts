/**
 * Puts custom archives of pg_dump together: a header, chosen entries of the table of contents (TOC), and their data blocks, in the
 * layout that `archive.ts` reads. An entry that nobody changed goes out with its own bytes, so the TOC of a whole archive comes out
 * byte-identical.
 *
 * What pg_restore punishes with exit code 0 and missing rows, and is therefore done here and nowhere else: the entries ENCODING,
 * STDSTRINGS and SEARCHPATH come first in every archive; an entry has its data flag and offset flag exactly when a block follows;
 * the terminator of COPY text stands once, at the very end of its block; blocks come in TOC order.
 */
import {
  type ArchiveHeader,
  type ArchiveString,
  archiveText,
  BLOCK_DATA,
  BLOCK_LARGE_OBJECTS,
  COPY_TERMINATOR,
  OFFSET_NO_DATA,
  OFFSET_NOT_SET,
  OFFSET_SET,
  SECTION_DATA,
  type TocEntry,
} from './archive.ts';

/** How much block data goes out as one piece. */
const PIECE = 128 * 1024;

const FIRST = ['ENCODING', 'STDSTRINGS', 'SEARCHPATH'] as const;

/** An entry of an archive being made, and where its block comes from. */
export interface ComposedEntry {
  readonly entry: TocEntry;
  readonly block?: ComposedBlock;
}

export interface ComposedBlock {
  /** Rows are COPY text without terminator; large objects are the block's whole contents, to their closing zero. */
  readonly kind: 'rows' | 'large-objects';
  /** Exact size of what `bytes` yields, where it is known. */
  readonly size: number | undefined;
  /** Read once, when the block's turn comes. */
  readonly bytes: AsyncIterable<Uint8Array>;
}

export interface ComposeOptions {
  /** Write the places of blocks into the TOC, as far as sizes are known: for a file, which parallel pg_restore then jumps about in. */
  readonly offsets: boolean;
}

/** An archive without data blocks: definitions only, to be kept in a small file. Entries that had a block must not be among `entries`. */
export function composeToc(header: ArchiveHeader, entries: readonly TocEntry[]): Buffer {
  const ordered = specialEntriesFirst(entries);
  return Buffer.concat([
    encodeHeader({ ...header, entryCount: ordered.length }),
    ...ordered.map((entry) => encodeWithData(header, entry, undefined)),
  ]);
}

/** A whole archive as a stream. The entries are in TOC order; those that have no block must have none in the end either. */
export async function* composeArchive(
  header: ArchiveHeader,
  entries: readonly ComposedEntry[],
  options: ComposeOptions,
): AsyncGenerator<Uint8Array> {
  const special = new Set(specialEntriesFirst(entries.map(({ entry }) => entry)));
  const byEntry = new Map(entries.map((composed) => [composed.entry, composed] as const));
  const ordered = [...special].map((entry) => byEntry.get(entry)).filter((composed) => composed !== undefined);
  yield encodeHeader({ ...header, entryCount: ordered.length });

  // Every entry has the same length with and without a known offset, so the first block's place is known before any is written.
  let place: number | undefined;
  if (options.offsets) {
    place = encodeHeader({ ...header, entryCount: ordered.length }).length;
    for (const { entry, block } of ordered) {
      place += encodeWithData(header, entry, block === undefined ? undefined : { place: undefined }).length;
    }
  }
  for (const { entry, block } of ordered) {
    yield encodeWithData(header, entry, block === undefined ? undefined : { place });
    if (block === undefined || place === undefined) continue;
    const length = block.size === undefined ? undefined : blockLength(header, block.kind, block.size);
    place = length === undefined ? undefined : place + length;
  }
  for (const { entry, block } of ordered) {
    if (block !== undefined) yield* encodeBlock(header, entry.dumpId, block);
  }
}

/** The bytes of a header whose `entryCount` entries follow. */
export function encodeHeader(header: ArchiveHeader): Buffer {
  const [major = 0, minor = 0] = header.version.split('.').map(Number);
  return Buffer.concat([
    Buffer.from('PGDMP', 'latin1'),
    Buffer.from([major, minor, header.revision, header.intSize, header.offsetSize, header.format]),
    header.version === '1.14' ? encodeInt(header, header.compression) : Buffer.from([header.compression]),
    ...header.time.map((part) => encodeInt(header, part)),
    encodeString(header, header.database),
    encodeString(header, header.serverVersion),
    encodeString(header, header.dumpVersion),
    encodeInt(header, header.entryCount),
  ]);
}

/** The bytes of an entry, from its fields (not its `raw`). */
export function encodeEntry(header: ArchiveHeader, entry: Omit<TocEntry, 'raw'>): Buffer {
  const string = (value: ArchiveString) => encodeString(header, value);
  return Buffer.concat([
    encodeInt(header, entry.dumpId),
    encodeInt(header, entry.hasData ? 1 : 0),
    string(entry.catalogOid),
    string(entry.oid),
    string(entry.tag),
    string(entry.description),
    encodeInt(header, entry.section),
    string(entry.definition),
    string(entry.dropStatement),
    string(entry.copyStatement),
    string(entry.namespace),
    string(entry.tablespace),
    string(entry.tableAccessMethod),
    header.version === '1.16' ? encodeInt(header, entry.relationKind ?? 0) : Buffer.alloc(0),
    string(entry.owner),
    string(entry.withOids),
    ...entry.dependencies.map(string),
    string(null),
    Buffer.from([entry.offsetFlag]),
    entry.offset,
  ]);
}

/** The TABLE DATA entry that pg_dump would have written for a table whose rows it was told to leave out. */
export function tableDataEntry(
  header: ArchiveHeader,
  table: TocEntry,
  dumpId: number,
  tableOid: number,
  copyStatement: Buffer,
): TocEntry {
  const fields: Omit<TocEntry, 'raw'> = {
    dumpId,
    hasData: true,
    catalogOid: Buffer.from('0', 'latin1'),
    oid: Buffer.from(String(tableOid), 'latin1'),
    tag: table.tag,
    description: Buffer.from('TABLE DATA', 'latin1'),
    section: SECTION_DATA,
    definition: Buffer.alloc(0),
    dropStatement: null,
    copyStatement,
    namespace: table.namespace,
    tablespace: null,
    tableAccessMethod: null,
    relationKind: header.version === '1.16' ? 0 : undefined,
    owner: table.owner,
    withOids: table.withOids,
    dependencies: [Buffer.from(String(table.dumpId), 'latin1')],
    offsetFlag: OFFSET_NOT_SET,
    offset: Buffer.alloc(header.offsetSize),
  };
  return { ...fields, raw: encodeEntry(header, fields) };
}

/** Puts entries for rows among those of a TOC: before the first SEQUENCE SET or large-object entry of the data section. */
export function withTableData(entries: readonly TocEntry[], tableData: readonly TocEntry[]): readonly TocEntry[] {
  if (tableData.length === 0) return entries;
  const isAfter = (entry: TocEntry) =>
    (entry.section === SECTION_DATA && archiveText(entry.description) !== 'TABLE DATA') || entry.section > SECTION_DATA;
  const index = entries.findIndex(isAfter);
  const place = index === -1 ? entries.length : index;
  return [...entries.slice(0, place), ...tableData, ...entries.slice(place)];
}

function specialEntriesFirst(entries: readonly TocEntry[]): readonly TocEntry[] {
  const isSpecial = (entry: TocEntry) => FIRST.some((name) => name === archiveText(entry.description));
  // A TOC begins with them as it is; where a selection moved them, they go back.
  return [...entries.filter(isSpecial), ...entries.filter((entry) => !isSpecial(entry))];
}

/** An entry that says truly whether, and where if known, its block follows. Unchanged entries keep their bytes. */
function encodeWithData(
  header: ArchiveHeader,
  entry: TocEntry,
  block: { readonly place: number | undefined } | undefined,
): Buffer {
  const hasData = block !== undefined;
  const offset = Buffer.alloc(header.offsetSize);
  let offsetFlag = hasData ? OFFSET_NOT_SET : OFFSET_NO_DATA;
  if (block?.place !== undefined) {
    offsetFlag = OFFSET_SET;
    let rest = block.place;
    for (let index = 0; index < header.offsetSize; index++) {
      offset[index] = rest % 256;
      rest = Math.floor(rest / 256);
    }
  }
  // Only a set offset has a meaning; what the others hold is left as it is.
  const same = entry.hasData === hasData && entry.offsetFlag === offsetFlag;
  if (same && (offsetFlag !== OFFSET_SET || entry.offset.equals(offset))) return entry.raw;
  return encodeEntry(header, { ...entry, hasData, offsetFlag, offset });
}

function blockLength(header: ArchiveHeader, kind: ComposedBlock['kind'], size: number): number {
  const int = header.intSize + 1;
  const head = 1 + int;
  if (kind === 'large-objects') return head + size;
  return head + size + Math.ceil(size / PIECE) * int + (int + COPY_TERMINATOR.length) + int;
}

async function* encodeBlock(header: ArchiveHeader, dumpId: number, block: ComposedBlock): AsyncGenerator<Uint8Array> {
  yield Buffer.concat([
    Buffer.from([block.kind === 'rows' ? BLOCK_DATA : BLOCK_LARGE_OBJECTS]),
    encodeInt(header, dumpId),
  ]);
  if (block.kind === 'large-objects') {
    yield* block.bytes;
    return;
  }
  // Pieces of one size, so that the length of the block follows from the size of the rows.
  for await (const piece of inPieces(block.bytes)) yield Buffer.concat([encodeInt(header, piece.length), piece]);
  yield Buffer.concat([encodeInt(header, COPY_TERMINATOR.length), COPY_TERMINATOR, encodeInt(header, 0)]);
}

async function* inPieces(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const held = Buffer.allocUnsafe(PIECE);
  let filled = 0;
  for await (const some of bytes) {
    for (let start = 0; start < some.length; ) {
      const taken = Math.min(PIECE - filled, some.length - start);
      held.set(some.subarray(start, start + taken), filled);
      filled += taken;
      start += taken;
      if (filled < PIECE) continue;
      yield held;
      filled = 0;
    }
  }
  if (filled > 0) yield held.subarray(0, filled);
}

function encodeInt(header: ArchiveHeader, value: number): Buffer {
  const bytes = Buffer.alloc(header.intSize + 1);
  bytes[0] = value < 0 ? 1 : 0;
  let rest = Math.abs(value);
  for (let index = 1; index <= header.intSize; index++) {
    bytes[index] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  return bytes;
}

function encodeString(header: ArchiveHeader, value: ArchiveString): Buffer {
  return value === null ? encodeInt(header, -1) : Buffer.concat([encodeInt(header, value.length), value]);
}
