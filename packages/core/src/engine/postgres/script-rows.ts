/**
 * Searches the rows of a COPY … FROM stdin for their end, the line `\.`, and counts them. Within a row a backslash is always doubled or
 * begins an escape, so a search for these two bytes finds next to nothing else, and each row is one line (manual, COPY, "Text Format").
 */
import { countNewlines } from './newlines.ts';

const NEWLINE = 10;
const RETURN = 13;
const DOT = 46;
const BACKSLASH = 92;

export class RowSearch {
  /** Rows so far; all of them once the end was found. */
  rows = 0;
  /** Bytes of the terminator `\.` (and a carriage return) read at the start of a line of rows; -1 in a line that is none. */
  #terminator = 0;

  begin(): void {
    this.rows = 0;
    this.#terminator = 0;
  }

  /** The index behind the terminator's line; -1 when the rows go on behind `bytes`. */
  find(bytes: Buffer, start: number): number {
    let at = start;
    // A terminator that the last chunk cut.
    while (at < bytes.length && this.#terminator > 0) {
      const byte = bytes[at++];
      const matched = this.#terminator;
      if (byte === NEWLINE) {
        if (matched >= 2) return at;
        this.rows++;
        this.#terminator = 0;
      } else if (matched === 1 && byte === DOT) this.#terminator = 2;
      else if (matched === 2 && byte === RETURN) this.#terminator = 3;
      else this.#terminator = -1;
    }
    const from = at;
    while (at < bytes.length) {
      const found = bytes.indexOf('\\.', at, 'latin1');
      if (found === -1) break;
      at = found + 2;
      const startsLine = found === from ? this.#terminator === 0 : bytes[found - 1] === NEWLINE;
      if (!startsLine) continue;
      const next = bytes[at] === RETURN ? at + 1 : at;
      if (next >= bytes.length) {
        this.rows += countNewlines(bytes, from, found);
        this.#terminator = next - found;
        return -1;
      }
      if (bytes[next] === NEWLINE) {
        this.rows += countNewlines(bytes, from, found);
        return next + 1;
      }
    }
    if (from < bytes.length) {
      this.rows += countNewlines(bytes, from, bytes.length);
      const last = bytes.length - 1;
      const previous = last === from ? (this.#terminator === 0 ? NEWLINE : 0) : bytes[last - 1];
      if (bytes[last] === NEWLINE) this.#terminator = 0;
      else this.#terminator = bytes[last] === BACKSLASH && previous === NEWLINE ? 1 : -1;
    }
    return -1;
  }
}
