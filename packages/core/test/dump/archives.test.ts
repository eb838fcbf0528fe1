/** The archives that pg_dump of several majors wrote (see `fixtures/archives/source.sql`) are read, cut anywhere, and put together again. */
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { archiveText } from '../../src/engine/postgres/archive.ts';
import { readArchive } from '../../src/engine/postgres/archive-reader.ts';
import { composeArchive } from '../../src/engine/postgres/archive-writer.ts';

const FOLDER = fileURLToPath(new URL('../../../../fixtures/archives/', import.meta.url));
const archives = (await readdir(FOLDER)).filter((name) => name.endsWith('.dump'));

/** Rows as `source.sql` makes them; rows of the hash partitions depend on oids, their sum does not. */
const ROWS: Readonly<Record<string, number>> = {
  'Odd "schema".1.new\nline ü': 4,
  'public.by_range_low': 9,
  'public.by_range_rest': 16,
  'public.circle_a': 1,
  'public.circle_b': 1,
  'public.empty_one': 0,
  'public.generated': 7,
  'public.no_columns': 2,
  'public.plain': 100,
};

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of bytes) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function takeApart(archive: Buffer, pieceSize: number) {
  const { toc, blocks } = await readArchive(inPieces(archive, pieceSize));
  const contents = new Map<number, { kind: 'rows' | 'large-objects'; bytes: Buffer; rows: number }>();
  for await (const block of blocks) {
    const bytes = await collect(block.bytes);
    contents.set(block.entry.dumpId, { kind: block.kind, bytes, rows: block.counts().rows });
  }
  return { toc, contents };
}

describe.each(archives)('the archive %s', (name) => {
  it.each([1, 7, 4096, 1 << 20])('gives exact counts when it comes in pieces of %i bytes', async (size) => {
    const { toc, contents } = await takeApart(await readFile(`${FOLDER}${name}`), size);
    const rows: Record<string, number> = {};
    let enumRows = 0;
    let largeObjects = 0;
    for (const entry of toc.entries) {
      const content = contents.get(entry.dumpId);
      if (content === undefined) continue;
      const table = `${archiveText(entry.namespace)}.${archiveText(entry.tag)}`;
      if (content.kind === 'large-objects') largeObjects += content.rows;
      else if (/by_enum/.test(table)) enumRows += content.rows;
      else rows[table] = content.rows;
    }
    if (name.startsWith('latin1')) {
      expect(Object.values(rows)).toEqual([1]);
      return;
    }
    expect(rows).toEqual(ROWS);
    expect(enumRows).toBe(3);
    expect(largeObjects).toBe(7);
  });

  it('is refused, not shortened, wherever it is cut', async () => {
    const archive = await readFile(`${FOLDER}${name}`);
    const { toc } = await readArchive(inPieces(archive, 1 << 20));
    // Redirected into a file it has a second table of contents behind the blocks, which nobody needs.
    const end = name.startsWith('redirected') ? archive.length - toc.length : archive.length;
    for (let cut = 1; cut < end; cut += Math.ceil(end / 61)) {
      await expect(takeApart(archive.subarray(0, cut), 1000), `cut at ${cut}`).rejects.toMatchObject({
        code: 'damaged',
      });
    }
    await expect(takeApart(archive.subarray(0, end - 1), 1000)).rejects.toMatchObject({ code: 'damaged' });
  });

  it('says the same when it was put together again', async () => {
    const archive = await readFile(`${FOLDER}${name}`);
    const { toc, contents } = await takeApart(archive, 1000);
    const entries = toc.entries.map((entry) => {
      const content = contents.get(entry.dumpId);
      if (content === undefined) return { entry };
      return { entry, block: { kind: content.kind, size: content.bytes.length, bytes: inPieces(content.bytes, 100) } };
    });
    // Rows come in pieces of another size than pg_dump's, so what is compared is what both say when they are read.
    const composed = await collect(composeArchive(toc.header, entries, { offsets: name.startsWith('file') }));
    const again = await takeApart(composed, 1000);
    expect(again.toc.header).toEqual(toc.header);
    expect(again.contents).toEqual(contents);
    const withoutOffsets = again.toc.entries.map(({ raw: _raw, offset: _offset, offsetFlag: _flag, ...rest }) => rest);
    expect(withoutOffsets).toEqual(
      toc.entries.map(({ raw: _raw, offset: _offset, offsetFlag: _flag, ...rest }) => rest),
    );
  });
});
