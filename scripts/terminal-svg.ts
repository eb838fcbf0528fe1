/**
 * Draws what a terminal shows as an SVG picture: `node scripts/terminal-svg.ts "title" < captured.txt > picture.svg`. The input is text with
 * colours as terminals write them (SGR sequences), for example `tmux capture-pane -ep`. The pictures in the docs are made with it.
 */
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

interface Style {
  readonly bold: boolean;
  readonly dim: boolean;
  readonly colour: string | undefined;
}

interface Run extends Style {
  readonly text: string;
}

const PLAIN: Style = { bold: false, dim: false, colour: undefined };
const COLOURS: Readonly<Record<number, string>> = {
  31: '#e5786d',
  32: '#95c76f',
  33: '#e0b05c',
  34: '#7aa6da',
  35: '#c397d8',
  36: '#70c0b1',
  37: '#eaeaea',
  90: '#8a8f98',
};
const CHARACTER_WIDTH = 8.43;
const LINE_HEIGHT = 19;
const MARGIN = 18;
const TITLE_HEIGHT = 34;

const { positionals } = parseArgs({ allowPositionals: true });
console.log(draw(await text(process.stdin), positionals[0] ?? ''));

function draw(input: string, title: string): string {
  const lines = input.trimEnd().split('\n').map(parseLine);
  const columns = Math.max(...lines.map((line) => line.reduce((sum, run) => sum + run.text.length, 0)));
  const width = Math.ceil(columns * CHARACTER_WIDTH + 2 * MARGIN);
  const height = TITLE_HEIGHT + lines.length * LINE_HEIGHT + MARGIN;
  const dots = ['#e5786d', '#e0b05c', '#95c76f']
    .map((colour, index) => `<circle cx="${MARGIN + 2 + index * 18}" cy="17" r="5.5" fill="${colour}"/>`)
    .join('');
  const rows = lines.map((line, index) => drawLine(line, TITLE_HEIGHT + (index + 1) * LINE_HEIGHT - 5)).join('\n');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>${escapeXml(title)}</title>
<rect width="100%" height="100%" rx="9" fill="#1e2127"/>
${dots}<text x="${width / 2}" y="21" fill="#8a8f98" font-family="sans-serif" font-size="12" text-anchor="middle">${escapeXml(title)}</text>
<g font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', Consolas, monospace" font-size="14" fill="#d4d7dd" xml:space="preserve">
${rows}
</g>
</svg>`;
}

/** Each run is stretched to its cells, so that columns stand under each other whatever font the reader has. */
function drawLine(line: readonly Run[], y: number): string {
  let column = 0;
  return line
    .map((run) => {
      const x = (MARGIN + column * CHARACTER_WIDTH).toFixed(1);
      const length = (run.text.length * CHARACTER_WIDTH).toFixed(1);
      column += run.text.length;
      if (run.text.trim() === '') return '';
      const style = [
        run.bold ? ' font-weight="bold"' : '',
        run.colour === undefined ? '' : ` fill="${run.colour}"`,
        run.dim ? ' fill-opacity="0.6"' : '',
      ].join('');
      return `<text x="${x}" y="${y}" textLength="${length}" lengthAdjust="spacingAndGlyphs"${style}>${escapeXml(run.text)}</text>`;
    })
    .join('');
}

function parseLine(line: string): Run[] {
  const runs: Run[] = [];
  let style = PLAIN;
  let from = 0;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is read
  for (const match of line.matchAll(/\u001b\[([\d;]*)m/g)) {
    if (match.index > from) runs.push({ ...style, text: line.slice(from, match.index) });
    for (const code of (match[1] ?? '').split(';')) style = apply(style, Number(code));
    from = match.index + match[0].length;
  }
  runs.push({ ...style, text: line.slice(from).trimEnd() });
  return runs;
}

function apply(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 39) return { ...style, colour: undefined };
  return { ...style, colour: COLOURS[code] ?? style.colour };
}

function escapeXml(plain: string): string {
  return plain.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
