/** Makes archives as pg_dump writes them to a pipe, of any version, for the reader's tests. */
import type { ArchiveVersion } from './archive.ts';

export type TestBlock =
  | { readonly kind: 'rows'; readonly rows: readonly Buffer[]; readonly pieceSize: number }
  | { readonly kind: 'large-objects'; readonly objects: readonly (readonly Buffer[])[] };

export interface TestArchive {
  readonly version: ArchiveVersion;
  readonly blocks: readonly TestBlock[];
}

export interface MadeArchive {
  readonly bytes: Buffer;
  readonly headLength: number;
  /** What a reader must give back. */
  readonly expected: readonly { readonly tag: string; readonly bytes: Buffer; readonly rows: number }[];
}

export function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(value < 0 ? 1 : 0, 0);
  bytes.writeUInt32LE(Math.abs(value), 1);
  return bytes;
}

function string(text: string | null): Buffer {
  return text === null ? int(-1) : Buffer.concat([int(Buffer.byteLength(text)), Buffer.from(text)]);
}

export function archiveBytes({ version, blocks }: TestArchive): MadeArchive {
  const minor = Number(version.slice(2));
  const entry = (dumpId: number, tag: string, description: string, hasData: boolean): Buffer =>
    Buffer.concat([
      int(dumpId),
      int(hasData ? 1 : 0),
      string('1259'),
      string(String(16_384 + dumpId)),
      string(tag),
      string(description),
      int(hasData ? 3 : 2),
      string(''),
      string(''),
      string(hasData ? 'COPY t FROM stdin;\n' : null),
      string('public'),
      string(''),
      string('heap'),
      ...(minor >= 16 ? [int(114)] : []),
      string('owner'),
      string('false'),
      string('7'),
      string(null),
      Buffer.from([hasData ? 1 : 3, 0, 0, 0, 0, 0, 0, 0, 0]),
    ]);
  const entries = [entry(1000, 'ENCODING', 'ENCODING', false)];
  const expected: { tag: string; bytes: Buffer; rows: number }[] = [];
  const data = blocks.map((block, index) => {
    const tag = `t${index}`;
    entries.push(entry(index + 1, tag, block.kind === 'rows' ? 'TABLE DATA' : 'BLOBS', true));
    if (block.kind === 'rows') {
      const text = Buffer.concat(block.rows.flatMap((row) => [row, Buffer.from('\n')]));
      expected.push({ tag, bytes: text, rows: block.rows.length });
      return Buffer.concat([
        Buffer.from([1]),
        int(index + 1),
        ...pieces(Buffer.concat([text, Buffer.from('\\.\n\n\n')]), block.pieceSize),
        int(0),
      ]);
    }
    const objects = block.objects.flatMap((object, number) => [
      int(number + 20_000),
      ...object.flatMap((piece) => [int(piece.length), piece]),
      int(0),
    ]);
    const contents = Buffer.concat([...objects, int(0)]);
    expected.push({ tag, bytes: contents, rows: block.objects.length });
    return Buffer.concat([Buffer.from([3]), int(index + 1), contents]);
  });
  const head = Buffer.concat([
    Buffer.from('PGDMP'),
    Buffer.from([1, minor, 0, 4, 8, 1]),
    minor >= 15 ? Buffer.from([0]) : int(0),
    ...[1, 2, 3, 4, 5, 126, 0].map(int),
    string('shop'),
    string('15.18'),
    string('15.18'),
    int(entries.length),
    ...entries,
  ]);
  return { bytes: Buffer.concat([head, ...data]), headLength: head.length, expected };
}

function pieces(bytes: Buffer, size: number): readonly Buffer[] {
  const found: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += size) {
    const piece = bytes.subarray(start, start + size);
    found.push(int(piece.length), piece);
  }
  return found;
}
