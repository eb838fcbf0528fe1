import { expect, test } from 'vitest';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatShare,
  formatThings,
  formatTime,
  printable,
} from './format.ts';

test('sizes use the decimal units of disks and storages', () => {
  expect(formatBytes(999)).toBe('999 B');
  expect(formatBytes(1_024_576)).toBe('1.02 MB');
});

test('counts are grouped, and agree with their noun', () => {
  expect(formatCount(1_234_567)).toBe('1,234,567');
  expect(formatThings(1, 'table')).toBe('1 table');
  expect(formatThings(2, 'entry', 'entries')).toBe('2 entries');
});

test('durations keep the two units that matter', () => {
  expect(formatDuration(12)).toBe('12ms');
  expect(formatDuration(3210)).toBe('3.2s');
  expect(formatDuration(252_000)).toBe('4m 12s');
  expect(formatDuration(7_512_000)).toBe('2h 5m');
});

test('shares never round something to nothing', () => {
  expect(formatShare(1, 8)).toBe('12.5 %');
  expect(formatShare(1, 100_000)).toBe('<0.1 %');
  expect(formatShare(0, 100)).toBe('0.0 %');
  expect(formatShare(1, 0)).toBe('–');
});

test('times name their zone, so that both hours of the night the clocks go back can be told apart', () => {
  const first = formatTime(new Date('2024-10-27T00:30:00Z'), 'Europe/Berlin');
  const second = formatTime(new Date('2024-10-27T01:30:00Z'), 'Europe/Berlin');
  expect(first).toBe('2024-10-27 02:30:00 CEST');
  expect(second).toBe('2024-10-27 02:30:00 CET');
  expect(formatTime(new Date('2024-01-01T00:00:00Z'), 'UTC')).toBe('2024-01-01 00:00:00 UTC');
});

test('control characters in names are shown, not obeyed', () => {
  expect(printable('a\u001b[2Jb\nc\u202ed')).toBe('a\\u{1b}[2Jb\\nc\\u{202e}d');
  expect(printable('Łódź 啤酒 🍺')).toBe('Łódź 啤酒 🍺');
});
