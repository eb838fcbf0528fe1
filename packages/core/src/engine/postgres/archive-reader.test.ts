import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COPY_TERMINATOR } from './archive.ts';
import { archiveBytes, int, type TestBlock } from './archive-fixture.ts';
import { readArchive } from './archive-reader.ts';
import { countNewlines } from './newlines.ts';

async function* inPieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let index = 0;
  for (let start = 0; start < bytes.length; ) {
    const size = sizes[index++ % sizes.length] ?? 1;
    // A copy: what was yielded before must not be needed.
    const piece = Buffer.from(bytes.subarray(start, start + size));
    start += size;
    yield piece;
    piece.fill(0xee);
  }
}

interface ReadBack {
  readonly tag: string;
  readonly bytes: Buffer;
  readonly rows: number;
}

async function readAll(bytes: Buffer, sizes: readonly number[]): Promise<readonly ReadBack[]> {
  const { blocks } = await readArchive(inPieces(bytes, sizes));
  const found: ReadBack[] = [];
  for await (const block of blocks) {
    const pieces: Buffer[] = [];
    for await (const piece of block.bytes) pieces.push(Buffer.from(piece));
    const all = Buffer.concat(pieces);
    expect(block.counts().bytes).toBe(all.length);
    found.push({ tag: block.entry.tag?.toString() ?? '', bytes: all, rows: block.counts().rows });
  }
  return found;
}

const row = fc
  .oneof(fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ minLength: 200, maxLength: 3000 }))
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 10 ? 11 : byte))));
const rowsBlock = fc.record({
  kind: fc.constant('rows' as const),
  rows: fc.array(row, { maxLength: 30 }),
  pieceSize: fc.integer({ min: 1, max: 500 }),
});
const objectsBlock = fc.record({
  kind: fc.constant('large-objects' as const),
  objects: fc.array(
    fc.array(
      fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      { maxLength: 3 },
    ),
    { maxLength: 4 },
  ),
});
const archive = fc.record({
  version: fc.constantFrom('1.14' as const, '1.15' as const, '1.16' as const),
  blocks: fc.array(fc.oneof(rowsBlock, objectsBlock) as fc.Arbitrary<TestBlock>, { maxLength: 4 }),
});
const sizes = fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 5 });

describe('the archive reader', () => {
  it('gives back every block whatever the pieces it is written and read in', async () => {
    await fc.assert(
      fc.asyncProperty(archive, sizes, async (given, cuts) => {
        const { bytes, expected } = archiveBytes(given);
        expect(await readAll(bytes, cuts)).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  it('stops after the last block, where an archive in a file has its second table of contents', async () => {
    const { bytes, expected } = archiveBytes({
      version: '1.16',
      blocks: [{ kind: 'rows', rows: [Buffer.from('1')], pieceSize: 9 }],
    });
    expect(await readAll(Buffer.concat([bytes, bytes.subarray(0, 50)]), [7])).toEqual(expected);
  });

  it('calls an archive damaged that is cut at any byte', async () => {
    const { bytes } = archiveBytes({
      version: '1.14',
      blocks: [
        { kind: 'rows', rows: [Buffer.from('abc'), Buffer.from('de')], pieceSize: 2 },
        { kind: 'large-objects', objects: [[Buffer.from('xyz')], []] },
      ],
    });
    for (let length = 0; length < bytes.length; length++) {
      await expect(readAll(bytes.subarray(0, length), [16]), `cut at ${length}`).rejects.toMatchObject({
        code: 'damaged',
      });
    }
  });

  it('gives the head exactly as it was', async () => {
    const { bytes, headLength } = archiveBytes({ version: '1.15', blocks: [{ kind: 'rows', rows: [], pieceSize: 1 }] });
    const { head, toc } = await readArchive(inPieces(bytes, [10]));
    expect(head.equals(bytes.subarray(0, headLength))).toBe(true);
    expect(
      Buffer.concat(toc.entries.map((entry) => entry.raw)).equals(
        head.subarray(headLength - toc.entries.reduce((sum, { raw }) => sum + raw.length, 0)),
      ),
    ).toBe(true);
  });

  it.each([
    ['of an unknown version', (bytes: Buffer) => bytes.writeUInt8(17, 6), 'unsupported-format'],
    ['of another major version', (bytes: Buffer) => bytes.writeUInt8(2, 5), 'unsupported-format'],
    ['of another format', (bytes: Buffer) => bytes.writeUInt8(3, 10), 'unsupported-format'],
    ['that is compressed', (bytes: Buffer) => bytes.writeUInt8(1, 11), 'unsupported-format'],
    ['that is none', (bytes: Buffer) => bytes.write('SELEC', 0), 'unsupported-format'],
  ])('refuses an archive %s', async (_what, change, code) => {
    const { bytes } = archiveBytes({
      version: '1.16',
      blocks: [{ kind: 'rows', rows: [Buffer.from('1')], pieceSize: 4 }],
    });
    change(bytes);
    await expect(readAll(bytes, [64])).rejects.toMatchObject({ code });
  });

  it('refuses a block of another entry, of an unknown kind, or without its end mark', async () => {
    const { bytes, headLength } = archiveBytes({
      version: '1.16',
      blocks: [{ kind: 'rows', rows: [Buffer.from('12')], pieceSize: 100 }],
    });
    const changed = (offset: number, value: number): Buffer => {
      const copy = Buffer.from(bytes);
      copy.writeUInt8(value, headLength + offset);
      return copy;
    };
    for (const broken of [changed(0, 2), changed(2, 99), changed(11 + COPY_TERMINATOR.length + 2, 0x41)]) {
      await expect(readAll(broken, [64])).rejects.toMatchObject({ code: 'damaged' });
    }
    expect(int(-5)).toEqual(Buffer.from([1, 5, 0, 0, 0]));
  });
});

describe('counting newlines', () => {
  it('finds each of them, from any place to any other', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(9, 10, 11, 0, 0x8a, 0xff, 138), { maxLength: 80 }),
        fc.nat(8),
        fc.nat(8),
        (values, skip, leave) => {
          const bytes = Buffer.from(values);
          const start = Math.min(skip, bytes.length);
          const end = Math.max(start, bytes.length - leave);
          expect(countNewlines(bytes, start, end)).toBe(values.slice(start, end).filter((byte) => byte === 10).length);
        },
      ),
    );
  });
});
