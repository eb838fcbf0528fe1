import { describe, expect, it } from 'vitest';
import { parseRowsLocator } from '../../src/engine/postgres/locator.ts';
import { testDatabase } from '../harness/databases.ts';
import { cutsTables, dumpOptions, dumpWhole, NO_COPIES, SMALLEST_PIECES, stockRows } from './collect-dump.ts';

/** Entry name and key of `stockRows` alike, without quotes, in UTF-8. */
function plain(name: string): string {
  return name.replaceAll('"', '');
}

describe('a dump in parts', () => {
  it('gives byte for byte the rows that pg_dump gives, whether it copies all it may, page by page, or nothing', async () => {
    await using database = await testDatabase('kitchen-sink');
    const stock = new Map(
      [...(await stockRows(database))].map(([key, rows]) => [plain(Buffer.from(key, 'latin1').toString('utf8')), rows]),
    );
    expect(stock.size).toBeGreaterThan(40);
    for (const sizes of [SMALLEST_PIECES, NO_COPIES]) {
      const dump = await dumpWhole(database.url, dumpOptions(), sizes);
      const rows = dump.entries.filter(({ kind }) => kind === 'rows' || kind === 'large-objects');
      expect(rows.map(({ name }) => plain(name)).sort()).toEqual([...stock.keys()].sort());
      for (const { name, kind, rows: count } of rows) {
        const bytes = dump.bytes.get(name);
        expect(bytes?.equals(stock.get(plain(name)) ?? Buffer.alloc(0)), `${name} differs`).toBe(true);
        if (kind === 'rows')
          expect(count, name).toBe(
            bytes?.toString('latin1').split('\n').length === 1
              ? 0
              : (bytes?.toString('latin1').split('\n').length ?? 0) - 1,
          );
      }
      if (sizes === SMALLEST_PIECES) {
        expect(Math.max(...dump.segments.values()) > 2).toBe(cutsTables(database.cluster));
        const copied = dump.entries.filter((entry) => entry.kind === 'rows' && parseRowsLocator(entry).from === 'copy');
        expect(copied.length).toBeGreaterThan(30);
      }
    }
  });

  it('cuts giant tables in pieces that do not depend on the number of jobs', async () => {
    await using database = await testDatabase('brewery');
    const sizes = { ...SMALLEST_PIECES, copyFromBytes: 1 << 16, segmentBytes: 1 << 20 };
    const one = await dumpWhole(database.url, dumpOptions({ jobs: 1 }), sizes);
    const four = await dumpWhole(database.url, dumpOptions({ jobs: 4 }), sizes);
    expect(four.segments).toEqual(one.segments);
    expect(Math.max(...one.segments.values()) > 2).toBe(cutsTables(database.cluster));
    expect(four.entries).toEqual(one.entries);
    expect(four.source.schemaDigest).toBe(one.source.schemaDigest);
  });
});
