import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ArchiveHeader,
  type ArchiveSection,
  type ArchiveToc,
  COPY_TERMINATOR,
  OFFSET_NO_DATA,
  OFFSET_SET,
  parseArchiveToc,
  type TocEntry,
} from './archive.ts';
import { readArchive } from './archive-reader.ts';
import {
  type ComposedEntry,
  composeArchive,
  composeToc,
  encodeEntry,
  encodeHeader,
  tableDataEntry,
  withTableData,
} from './archive-writer.ts';

const string = fc.oneof(
  fc.constant(null),
  fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
);

function headerOf(version: ArchiveHeader['version'], intSize: number, offsetSize: number): fc.Arbitrary<ArchiveHeader> {
  return fc.record({
    version: fc.constant(version),
    revision: fc.nat({ max: 255 }),
    intSize: fc.constant(intSize),
    offsetSize: fc.constant(offsetSize),
    format: fc.constant(1),
    compression: version === '1.14' ? fc.integer({ min: -1, max: 9 }) : fc.nat({ max: 3 }),
    time: fc.array(fc.integer({ min: -1, max: 2000 }), { minLength: 7, maxLength: 7 }),
    database: string,
    serverVersion: string,
    dumpVersion: string,
    entryCount: fc.constant(0),
  });
}

function entryOf(header: ArchiveHeader): fc.Arbitrary<TocEntry> {
  return fc
    .record({
      dumpId: fc.integer({ min: 1, max: 1_000_000 }),
      hasData: fc.boolean(),
      catalogOid: string,
      oid: string,
      tag: string,
      description: string,
      section: fc.constantFrom<ArchiveSection>(1, 2, 3, 4),
      definition: string,
      dropStatement: string,
      copyStatement: string,
      namespace: string,
      tablespace: string,
      tableAccessMethod: string,
      relationKind: header.version === '1.16' ? fc.nat({ max: 127 }) : fc.constant(undefined),
      owner: string,
      withOids: string,
      dependencies: fc.array(
        fc.nat().map((id) => Buffer.from(String(id))),
        { maxLength: 5 },
      ),
      offsetFlag: fc.constantFrom(1, 2, 3),
      offset: fc.uint8Array({ minLength: header.offsetSize, maxLength: header.offsetSize }).map((b) => Buffer.from(b)),
    })
    .map((fields) => ({ ...fields, raw: encodeEntry(header, fields) }));
}

const toc = fc
  .tuple(
    fc.constantFrom<ArchiveHeader['version']>('1.14', '1.15', '1.16'),
    fc.constantFrom(4, 8),
    fc.constantFrom(4, 8),
  )
  .chain(([version, intSize, offsetSize]) => headerOf(version, intSize, offsetSize))
  .chain((header) => fc.tuple(fc.constant(header), fc.array(entryOf(header), { maxLength: 8 })));

function parse(bytes: Buffer): ArchiveToc {
  const parsed = parseArchiveToc(bytes);
  if (parsed === undefined) throw new Error('the archive ends too early');
  return parsed;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

describe('the archive writer', () => {
  it('writes what the parser reads: every header and entry of every version comes back the same', () => {
    fc.assert(
      fc.property(toc, ([header, entries]) => {
        const counted = { ...header, entryCount: entries.length };
        const bytes = Buffer.concat([encodeHeader(counted), ...entries.map((entry) => encodeEntry(header, entry))]);
        const parsed = parse(bytes);
        expect(parsed).toEqual({ header: counted, entries, length: bytes.length });
      }),
    );
  });

  it('writes each entry with data and offset flags that say what follows, blocks in order, and places that are right', async () => {
    await fc.assert(
      fc.asyncProperty(
        toc,
        fc.infiniteStream(fc.nat({ max: 300_000 })),
        fc.boolean(),
        async ([header, some], sizes, offsets) => {
          const entries = some.map((entry, index) => ({ ...entry, dumpId: index + 1 }));
          const blocks = new Map<number, Buffer>();
          const composed = entries.map((fields): ComposedEntry => {
            const entry = { ...fields, raw: encodeEntry(header, fields) };
            if (!entry.hasData) return { entry };
            const rows = Buffer.alloc(sizes.next().value ?? 0, 'ab\n');
            blocks.set(entry.dumpId, rows);
            return { entry, block: { kind: 'rows', size: rows.length, bytes: once(rows) } };
          });
          const bytes = await collect(composeArchive({ ...header, compression: 0 }, composed, { offsets }));
          const parsed = parse(bytes);
          for (const entry of parsed.entries) {
            expect(entry.hasData).toBe(blocks.has(entry.dumpId));
            if (!entry.hasData) expect(entry.offsetFlag).toBe(OFFSET_NO_DATA);
            else expect(entry.offsetFlag === OFFSET_SET).toBe(offsets);
            if (!entry.hasData || !offsets) continue;
            const place = littleEndian(entry.offset);
            expect(bytes[place]).toBe(1);
            expect(littleEndian(bytes.subarray(place + 2, place + 2 + header.intSize))).toBe(entry.dumpId);
          }
          const reader = await readArchive(once(bytes));
          for await (const block of reader.blocks) {
            const rows = await collect(block.bytes);
            expect(rows.equals(blocks.get(block.entry.dumpId) ?? Buffer.alloc(0))).toBe(true);
            blocks.delete(block.entry.dumpId);
          }
          expect(blocks.size).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('puts ENCODING, STDSTRINGS and SEARCHPATH first, wherever a selection left them', () => {
    fc.assert(
      fc.property(toc, ([header, some]) => {
        const named = (name: string): TocEntry | undefined => {
          const [first] = some;
          if (first === undefined) return undefined;
          const fields = { ...first, hasData: false, description: Buffer.from(name) };
          return { ...fields, raw: encodeEntry(header, fields) };
        };
        const special = ['ENCODING', 'STDSTRINGS', 'SEARCHPATH'].flatMap((name) => named(name) ?? []);
        const parsed = parse(composeToc(header, [...some, ...special]));
        expect(parsed.entries.slice(0, special.length).map(({ description }) => String(description))).toEqual(
          special.map(({ description }) => String(description)),
        );
        expect(parsed.entries.some(({ hasData }) => hasData)).toBe(false);
      }),
    );
  });

  it('makes rows that Cellar copied an entry before sequences and large objects, and after the other rows', () => {
    const header = parse(composeToc(HEADER, [])).header;
    const entry = (description: string, section: ArchiveSection, dumpId: number): TocEntry => {
      const fields = { ...tableDataEntry(header, EMPTY, dumpId, 1, Buffer.from('COPY a.b  FROM stdin;\n')), section };
      const named = { ...fields, description: Buffer.from(description) };
      return { ...named, raw: encodeEntry(header, named) };
    };
    const table = entry('TABLE', 2, 1);
    const made = tableDataEntry(header, table, 9, 77, Buffer.from('COPY a.b  FROM stdin;\n'));
    const order = withTableData(
      [
        table,
        entry('COMMENT', 1, 2),
        entry('TABLE DATA', 3, 3),
        entry('SEQUENCE SET', 3, 4),
        entry('BLOBS', 3, 5),
        entry('INDEX', 4, 6),
      ],
      [made],
    );
    expect(order.map(({ dumpId }) => dumpId)).toEqual([1, 2, 3, 9, 4, 5, 6]);
    expect(withTableData([table, entry('INDEX', 4, 6)], [made]).map(({ dumpId }) => dumpId)).toEqual([1, 9, 6]);
    expect(made.dependencies.map(String)).toEqual(['1']);
  });

  it('writes the terminator of COPY text once, at the very end', async () => {
    const rows = Buffer.alloc(400_000, 'x\n');
    const entry = tableDataEntry(HEADER, EMPTY, 1, 1, Buffer.from('COPY a.b  FROM stdin;\n'));
    const composed = [{ entry, block: { kind: 'rows' as const, size: rows.length, bytes: once(rows) } }];
    const bytes = await collect(composeArchive(HEADER, composed, { offsets: true }));
    expect(bytes.indexOf(COPY_TERMINATOR)).toBe(bytes.length - COPY_TERMINATOR.length - HEADER.intSize - 1);
  });
});

const HEADER: ArchiveHeader = {
  version: '1.16',
  revision: 0,
  intSize: 4,
  offsetSize: 8,
  format: 1,
  compression: 0,
  time: [0, 0, 0, 1, 0, 124, 0],
  database: null,
  serverVersion: null,
  dumpVersion: null,
  entryCount: 0,
};

const EMPTY: TocEntry = {
  dumpId: 1,
  hasData: false,
  catalogOid: null,
  oid: null,
  tag: Buffer.from('b'),
  description: Buffer.from('TABLE'),
  section: 2,
  definition: null,
  dropStatement: null,
  copyStatement: null,
  namespace: Buffer.from('a'),
  tablespace: null,
  tableAccessMethod: null,
  relationKind: 114,
  owner: null,
  withOids: null,
  dependencies: [],
  offsetFlag: OFFSET_NO_DATA,
  offset: Buffer.alloc(8),
  raw: Buffer.alloc(0),
};

function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}
