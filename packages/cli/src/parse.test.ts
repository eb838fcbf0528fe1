import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { duration, filled, percent, size, tableName, timeZone, wholeNumber } from './parse.ts';

describe('whole numbers', () => {
  test('are taken within their range', () => {
    expect(wholeNumber(1)('8')).toBe(8);
    expect(wholeNumber(0, 9)('0')).toBe(0);
  });

  test.each(['0', '-1', '1.5', '1e3', '0x10', '', ' ', 'x', '99999999999999999999', '10'])(
    '%j is refused with the range',
    (text) => {
      expect(() => wholeNumber(1, 9)(text)).toThrow('It takes a whole number from 1 to 9.');
    },
  );
});

test('percentages are above 0 and up to 100', () => {
  expect(percent('25')).toBe(25);
  expect(percent('0.5%')).toBe(0.5);
  expect(percent('100')).toBe(100);
  for (const text of ['0', '101', '200', '-5', 'all', '', '5%%', '1e1'])
    expect(() => percent(text)).toThrow('percentage');
});

test('sizes know decimal and binary units', () => {
  expect(size('500MB')).toBe(500_000_000);
  expect(size('1.5 GiB')).toBe(1_610_612_736);
  expect(size('20g')).toBe(20_000_000_000);
  expect(size('1234')).toBe(1234);
  for (const text of ['0', '5 parsecs', 'MB', '-1GB', '', '99999999999TB']) {
    expect(() => size(text)).toThrow('such as 500MB');
  }
});

test('durations need a unit and fit a timer', () => {
  expect(duration('30s')).toBe(30_000);
  expect(duration('5m')).toBe(300_000);
  expect(duration('500ms')).toBe(500);
  for (const text of ['30', '0s', '-1s', '1d', '1000h', '']) expect(() => duration(text)).toThrow('such as 30s');
});

test('time zones are those that exist', () => {
  expect(timeZone('Europe/Berlin')).toBe('Europe/Berlin');
  expect(() => timeZone('Europe/Atlantis')).toThrow('such as Europe/Berlin');
});

test('an empty value is refused, because it is mostly a variable that was not set', () => {
  expect(() => filled('  ')).toThrow('It is empty.');
});

describe('table names', () => {
  test.each([
    ['orders', 'public', 'orders'],
    ['shop.orders', 'shop', 'orders'],
    ['Shop.Orders', 'Shop', 'Orders'],
    ['"My Shop"."Order.Lines"', 'My Shop', 'Order.Lines'],
    ['"say ""hi"""', 'public', 'say "hi"'],
    ['my table', 'public', 'my table'],
  ])('%s is %s / %s', (text, schema, name) => {
    expect(tableName(text)).toEqual({ schema, name });
  });

  test.each(['', '.', 'a.', '.b', 'a.b.c', '"open', 'a"b', '""'])('%j is refused', (text) => {
    expect(() => tableName(text)).toThrow('It takes a table');
  });

  test('any two names, quoted, come back as they are', () => {
    const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
    const anyName = fc.string({ minLength: 1, unit: 'grapheme' });
    fc.assert(
      fc.property(anyName, anyName, (schema, name) => {
        expect(tableName(`${quoted(schema)}.${quoted(name)}`)).toEqual({ schema, name });
      }),
    );
  });
});
