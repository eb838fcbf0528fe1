import { describe, expect, test } from 'vitest';
import { parsePolicy, parseTimeZone } from './parse-policy.ts';

describe('policies', () => {
  test('rules that are given are taken, those that are not given are not there', () => {
    expect(parsePolicy({ keepDays: 30, keepLast: undefined, keepDaily: null, maxTotalBytes: 10 ** 12 })).toEqual({
      keepDays: 30,
      maxTotalBytes: 10 ** 12,
    });
    expect(parsePolicy({})).toEqual({});
  });

  test.each([-1, 0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1e9, '7', true, [7], {}])(
    'keepDays cannot be %j',
    (value) => {
      expect(() => parsePolicy({ keepDays: value })).toThrow(
        expect.objectContaining({
          code: 'invalid-input',
          message: expect.stringContaining('keepDays'),
          hint: expect.stringContaining('from 1 to'),
        }),
      );
    },
  );

  test('a rule that is not known is refused, not ignored', () => {
    for (const rule of ['keepWeeks', 'toString', '__proto__x']) {
      expect(() => parsePolicy({ [rule]: 3 })).toThrow(
        expect.objectContaining({ code: 'invalid-input', message: expect.stringContaining(rule) }),
      );
    }
  });
});

describe('time zones', () => {
  test.each(['Europe/Berlin', 'UTC', 'America/Argentina/Buenos_Aires'])('%s is one', (zone) => {
    expect(parseTimeZone(zone)).toBe(zone);
  });

  test.each(['', 'Mars/Olympus', 'Europe', 'Berlin'])('%j is none', (zone) => {
    expect(() => parseTimeZone(zone)).toThrow(
      expect.objectContaining({ code: 'invalid-input', hint: expect.stringContaining('IANA') }),
    );
  });
});
