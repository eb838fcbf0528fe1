import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isObjectName, parseObjectName } from '../storage/storage.ts';
import { fileOfSidecar, givenPrefix, makePlainName, parsePlainName, prefixFor, sidecarName } from './file-name.ts';

const AT = new Date('2024-11-08T12:00:00.789Z');

describe('names of plain files', () => {
  it('are those of the older application', () => {
    const name = makePlainName(prefixFor('hoppybrew_db'), AT, 'gzip', false);
    expect(name).toMatchObject({ fileName: 'hoppybrew_backup_20241108_120000.sql.gz', timestamp: '20241108_120000' });
    expect(sidecarName(name.fileName)).toBe('hoppybrew_backup_20241108_120000.sql.json');
    expect(name.time).toEqual(new Date('2024-11-08T12:00:00Z'));
  });

  it('are read back as they were made, whatever the database is called', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 }),
        fc.date({ min: new Date('1970-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
        fc.constantFrom('gzip' as const, 'zstd' as const),
        fc.boolean(),
        (database, time, compression, encrypted) => {
          const name = makePlainName(prefixFor(database), time, compression, encrypted);
          expect(parsePlainName(name.fileName)).toEqual(name);
          expect(isObjectName(sidecarName(name.fileName))).toBe(true);
          expect(fileOfSidecar(sidecarName(name.fileName))).toEqual(name);
          expect(name.fileName).toMatch(/^[\p{L}\p{M}\p{N}_][\p{L}\p{M}\p{N}_.-]*$/u);
        },
      ),
    );
  });

  it('have a sidecar each, whichever of the extensions they have', () => {
    const sidecars = (['gzip', 'zstd'] as const).flatMap((compression) =>
      [false, true].map((encrypted) => sidecarName(makePlainName('x', AT, compression, encrypted).fileName)),
    );
    expect(new Set(sidecars).size).toBe(4);
  });

  it('keep databases apart whose names differ only in what a name cannot hold', () => {
    const prefixes = ['my shop', 'my_shop', 'my/shop', 'my;shop', `${'x'.repeat(200)}a`, `${'x'.repeat(200)}b`].map(
      prefixFor,
    );
    expect(new Set(prefixes).size).toBe(prefixes.length);
    expect(prefixFor('my_shop')).toBe('my_shop');
    expect(prefixFor('пивоварня_db')).toBe('пивоварня');
    expect(prefixFor('-rf')).toMatch(/^_rf-/);
    expect(prefixFor('_db')).toBe('_db');
    expect(givenPrefix('my_db')).toBe('my_db');
    expect(() => givenPrefix(' ')).toThrow(/empty/);
  });

  it.each([
    'hoppybrew_backup_20241131_120000.sql.gz',
    'hoppybrew_backup_20241108_250000.sql.gz',
    'hoppybrew_backup_20241108_120000.sql',
    'hoppybrew_backup_20241108_120000.sql.gz.tmp',
    'hoppybrew_20241108_120000.sql.gz',
    '_backup_20241108_120000.sql.gz',
    'old/hoppybrew_backup_20241108_120000.sql.gz',
    'notes.txt',
  ])('do not include %s', (text) => {
    expect(parsePlainName(parseObjectName(text))).toBeUndefined();
  });

  it('may have the pattern in the database name itself', () => {
    const odd = 'a_backup_20200101_000000_backup_20241108_120000.sql.gz';
    expect(parsePlainName(parseObjectName(odd))).toMatchObject({
      prefix: 'a_backup_20200101_000000',
      timestamp: '20241108_120000',
    });
  });
});
