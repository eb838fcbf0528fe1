import measure from 'fast-string-truncated-width';
import { expect, test } from 'vitest';
import { type Column, renderFacts, renderTable } from './table.ts';

interface Row {
  readonly id: string;
  readonly size: string;
  readonly note: string;
}

const COLUMNS: readonly Column<Row>[] = [
  { head: 'id', value: (row) => row.id },
  { head: 'size', value: (row) => row.size, align: 'right', drop: 1 },
  { head: 'description', value: (row) => row.note, stretch: true },
];

const ROWS: readonly Row[] = [
  { id: 'A1', size: '1 MB', note: 'before the upgrade of the brewing hall' },
  { id: 'B22', size: '120 MB', note: '啤酒' },
];

test('columns are as wide as their widest cell, and numbers stand right', () => {
  expect(renderTable(COLUMNS, ROWS, { colour: false })).toBe(
    ['id     size  description', 'A1     1 MB  before the upgrade of the brewing hall', 'B22  120 MB  啤酒'].join('\n'),
  );
});

test.each([60, 44, 30, 24, 18, 14])('no line is wider than a terminal of %i columns', (width) => {
  const lines = renderTable(COLUMNS, ROWS, { width, colour: false }).split('\n');
  for (const line of lines) expect(measure(line).width).toBeLessThanOrEqual(width);
  expect(lines).toHaveLength(3);
});

test('what is cut says so, and the column that matters least goes first', () => {
  const [head, first] = renderTable(COLUMNS, ROWS, { width: 16, colour: false }).split('\n');
  expect(head).toBe('id   description');
  expect(head).not.toContain('size');
  expect(first).toContain('…');
});

test('colour adds nothing but escape sequences to the head', () => {
  const plain = renderTable(COLUMNS, ROWS, { colour: false });
  const coloured = renderTable(COLUMNS, ROWS, { colour: true });
  expect(coloured).toContain('\u001b[1m');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is taken out
  expect(coloured.replace(/\u001b\[\d+m/g, '').replace(/ +$/gm, '')).toBe(plain);
});

test('facts that are not there leave no line, and several values go under each other', () => {
  const text = renderFacts(
    [
      ['name', 'shop'],
      ['note', undefined],
      ['entries', ['a', 'b']],
    ],
    false,
  );
  expect(text).toBe('name     shop\nentries  a\n         b');
});
