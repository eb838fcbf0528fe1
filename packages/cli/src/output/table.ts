/**
 * Tables that fit the terminal: columns take what they need; when that is too much, the least important columns go first and
 * then the stretchable ones are cut with an ellipsis. Written to a file or a pipe, nothing is dropped and nothing is cut.
 */
import { styleText } from 'node:util';
import measure from 'fast-string-truncated-width';
import { printable } from './format.ts';

export interface Column<Row> {
  readonly head: string;
  readonly value: (row: Row) => string;
  readonly align?: 'left' | 'right';
  /** May be cut when the table is too wide. */
  readonly stretch?: boolean;
  /** Dropped when the table is too wide, the highest number first. Without it the column always stays. */
  readonly drop?: number;
}

export interface TableOptions {
  /** Columns of the terminal; undefined when the text goes elsewhere. */
  readonly width?: number | undefined;
  readonly colour: boolean;
}

interface Measured {
  readonly head: string;
  readonly cells: readonly string[];
  readonly align: 'left' | 'right';
  readonly stretch: boolean;
  readonly drop: number | undefined;
  width: number;
}

const GAP = '  ';
const NARROWEST_STRETCH = 8;

export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], options: TableOptions): string {
  const measured = columns.map((column): Measured => {
    const cells = rows.map((row) => printable(column.value(row)));
    return {
      head: column.head,
      cells,
      align: column.align ?? 'left',
      stretch: column.stretch ?? false,
      drop: column.drop,
      width: Math.max(widthOf(column.head), ...cells.map(widthOf)),
    };
  });
  const shown = options.width === undefined ? measured : fit(measured, options.width);
  const head = shown.map((column) => bold(pad(column.head, column), options.colour)).join(GAP);
  const lines = rows.map((_, row) => shown.map((column) => pad(column.cells[row] ?? '', column)).join(GAP));
  return [head, ...lines].map((line) => line.trimEnd()).join('\n');
}

/** Names and values, one fact a line; an undefined value leaves its line out, several values go under each other. */
export function renderFacts(
  facts: readonly (readonly [name: string, value: string | readonly string[] | undefined])[],
  colour: boolean,
): string {
  const width = Math.max(...facts.filter(([, value]) => value !== undefined).map(([name]) => widthOf(name)), 0);
  return facts
    .flatMap(([name, value]) => {
      const lines = value === undefined ? [] : typeof value === 'string' ? [value] : value;
      return lines.map((line, index) => {
        const label = index === 0 ? name : '';
        const space = ' '.repeat(width - widthOf(label));
        return `${bold(label, colour)}${space}${GAP}${printable(line)}`.trimEnd();
      });
    })
    .join('\n');
}

/** Leaves columns out, then narrows the stretchable ones, until the table fits or nothing more can give. */
function fit(columns: readonly Measured[], width: number): Measured[] {
  const shown = [...columns];
  const total = () => shown.reduce((sum, column) => sum + column.width, 0) + GAP.length * (shown.length - 1);
  const narrowest = () =>
    total() -
    shown.reduce((sum, column) => sum + (column.stretch ? Math.max(0, column.width - NARROWEST_STRETCH) : 0), 0);
  while (narrowest() > width) {
    const next = shown.reduce<Measured | undefined>(
      (least, column) => (column.drop !== undefined && column.drop > (least?.drop ?? -1) ? column : least),
      undefined,
    );
    if (next === undefined) break;
    shown.splice(shown.indexOf(next), 1);
  }
  for (let excess = total() - width; excess > 0; excess = total() - width) {
    const widest = shown
      .filter((column) => column.stretch && column.width > NARROWEST_STRETCH)
      .reduce<Measured | undefined>((most, column) => (column.width > (most?.width ?? 0) ? column : most), undefined);
    if (widest === undefined) break;
    widest.width = Math.max(NARROWEST_STRETCH, widest.width - excess);
  }
  return shown;
}

function pad(text: string, column: Measured): string {
  const cut = truncate(text, column.width);
  const space = ' '.repeat(Math.max(0, column.width - widthOf(cut)));
  return column.align === 'right' ? space + cut : cut + space;
}

function truncate(text: string, width: number): string {
  const { truncated, index } = measure(text, { limit: width, ellipsis: '…', ellipsisWidth: 1 });
  return truncated ? `${text.slice(0, index)}…` : text;
}

function widthOf(text: string): number {
  return measure(text).width;
}

function bold(text: string, colour: boolean): string {
  return colour && text !== '' ? styleText('bold', text, { validateStream: false }) : text;
}
