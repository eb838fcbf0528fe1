/**
 * Takes an SQL script for psql apart into items, in one pass over its bytes and without keeping them: white space, comments,
 * statements, psql's own commands, and the rows that follow a COPY … FROM stdin. It draws the same lines as psql does
 * (src/fe_utils/psqlscan.l and src/bin/psql/copy.c of PostgreSQL): quotes, E'' strings, dollar quotes, nested comments,
 * parentheses, and BEGIN ATOMIC bodies of functions. Rows of a COPY are searched for their end only, so they cost next to nothing.
 *
 *   between ─▶ statement ─(;)─▶ between              inside a statement: quoted, commented, dollar-quoted
 *      ▲            ╰─(COPY … FROM stdin;)─▶ rows ─(\.)─╮
 *      ╰────────────────────────────────────────────────╯
 */
import { CellarError } from '../../errors.ts';
import { RowSearch } from './script-rows.ts';

export type ItemKind = 'space' | 'comment' | 'statement' | 'meta' | 'rows';

/** What the lexer knows of a statement when it ends, beyond its bytes. */
export interface StatementShape {
  /** Groups in parentheses at the outermost level: for an INSERT its column list and its rows. */
  readonly groups: number;
}

/**
 * Receives a script. All slices in order are the script's bytes. A slice is valid during the call only.
 */
export interface ScriptSink {
  /** The bytes from `start` to `end` belong to the item in hand, which is of this kind. */
  slice(kind: ItemKind, bytes: Buffer, start: number, end: number): void;
  /** A statement ended. Answers what is to follow: rows, when it was a COPY from stdin. */
  statement(shape: StatementShape): 'sql' | 'rows';
  /** A comment or a psql command ended; `whole` is false where the script ended before its line did. */
  line(kind: 'comment' | 'meta', whole: boolean): void;
  /** The rows of a COPY ended with their terminator. */
  rows(count: number): void;
  /** A backslash outside of quotes within a statement: a psql command that is none of pg_dump's. */
  metaInStatement(): void;
}

const NEWLINE = 10;
const RETURN = 13;
const QUOTE = 39;
const DOUBLE_QUOTE = 34;
const DOLLAR = 36;
const BACKSLASH = 92;
const DASH = 45;
const SLASH = 47;
const STAR = 42;
const DOT = 46;
const OPEN = 40;
const CLOSE = 41;

/** Classes of bytes outside of quotes; 0 for all else. */
const SPACE = 1;
const WORD_START = 2;
const DIGIT = 3;
const SPECIAL = 4;
const CLASS = classTable();

function classTable(): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of [32, 9, 10, 11, 12, 13]) table[byte] = SPACE;
  for (let byte = 0; byte < 256; byte++) {
    if ((byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122) || byte === 95 || byte >= 128)
      table[byte] = WORD_START;
    if (byte >= 48 && byte <= 57) table[byte] = DIGIT;
  }
  for (const char of `'"$\\-/();*`) table[char.charCodeAt(0)] = SPECIAL;
  return table;
}

/** Where the lexer stands: the first four outside of quotes, the rest inside of something. */
type State =
  | 'between'
  | 'statement'
  | 'copy-start'
  | 'rows'
  | 'meta'
  | 'line-comment'
  | 'block-comment'
  | 'string'
  | 'escape-string'
  | 'name'
  | 'dollar-tag'
  | 'dollar-body';

/** Words that decide whether a semicolon ends a statement: psql counts BEGIN … END in bodies of functions. */
const LONGEST_WORD = 10;
const ROUTINE_WORDS = new Set(['create', 'or', 'replace', 'function', 'procedure']);

export class ScriptLexer {
  readonly #sink: ScriptSink;
  #state: State = 'between';
  /** Where a comment ends: the state it interrupted. */
  #outer: 'between' | 'statement' = 'between';
  /** With `standard_conforming_strings` off, backslashes escape in every string. */
  #everyStringEscapes = false;

  /** The first byte of what two bytes may make (the start or end of a comment), until the second is seen. */
  #previous = 0;
  #commentDepth = 0;
  #escaped = false;
  /** Only white space since an E'' string, which another quote may continue (manual, 4.1.2.1 and 4.1.2.2). */
  #behindEscapeString: 'no' | 'directly' | 'space' | 'line-end' = 'no';

  #word = '';
  #inWord = false;
  #inNumber = false;
  #words = 0;
  #createWords = '';
  #beginDepth = 0;
  #depth = 0;
  #groups = 0;

  #tag = '';
  #dollarMatched = 0;

  readonly #search = new RowSearch();

  constructor(sink: ScriptSink) {
    this.#sink = sink;
  }

  /** To be told when the script sets `standard_conforming_strings`. */
  setStandardStrings(on: boolean): void {
    this.#everyStringEscapes = !on;
  }

  push(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < bytes.length) {
      switch (this.#state) {
        case 'between':
          at = this.#between(bytes, at);
          break;
        case 'statement':
          at = this.#statement(bytes, at);
          break;
        case 'copy-start':
          at = this.#copyStart(bytes, at);
          break;
        case 'rows':
          at = this.#copyRows(bytes, at);
          break;
        case 'meta':
          at = this.#line(bytes, at, 'meta');
          break;
        case 'line-comment':
          at = this.#line(bytes, at, 'comment');
          break;
        case 'block-comment':
          at = this.#blockComment(bytes, at);
          break;
        case 'string':
          at = this.#until(bytes, at, QUOTE);
          break;
        case 'name':
          at = this.#until(bytes, at, DOUBLE_QUOTE);
          break;
        case 'escape-string':
          at = this.#escapeString(bytes, at);
          break;
        case 'dollar-tag':
          at = this.#dollarTag(bytes, at);
          break;
        case 'dollar-body':
          at = this.#dollarBody(bytes, at);
          break;
      }
    }
  }

  /** To be called after the last byte. Returns what the script ends inside of; undefined where it ends between two items. */
  end(): string | undefined {
    switch (this.#state) {
      case 'between':
        return this.#previous === 0 ? undefined : 'a statement';
      case 'line-comment':
        if (this.#outer === 'statement') return 'a statement';
        this.#sink.line('comment', false);
        return undefined;
      case 'meta':
        this.#sink.line('meta', false);
        return undefined;
      case 'block-comment':
        return 'a comment';
      case 'rows':
      case 'copy-start':
        return 'the rows of a table';
      default:
        return 'a statement';
    }
  }

  #between(bytes: Buffer, start: number): number {
    let at = start;
    if (this.#previous === 0) {
      while (at < bytes.length && CLASS[bytes[at] ?? 0] === SPACE) at++;
      if (at > start) this.#sink.slice('space', bytes, start, at);
      if (at === bytes.length) return at;
      const byte = bytes[at] ?? 0;
      if (byte === BACKSLASH) {
        this.#state = 'meta';
        return at;
      }
      if (byte === DASH || byte === SLASH) {
        // Whether a comment starts here is for the next byte to say.
        if (at + 1 === bytes.length) {
          this.#previous = byte;
          return at + 1;
        }
        const second = bytes[at + 1];
        if (second === (byte === DASH ? DASH : STAR)) {
          this.#startComment('between', byte);
          this.#sink.slice('comment', bytes, at, at + 2);
          return at + 2;
        }
      }
      this.#startStatement();
      return at;
    }
    const first = this.#previous;
    this.#previous = 0;
    const single = Buffer.from([first]);
    if (bytes[at] === (first === DASH ? DASH : STAR)) {
      this.#startComment('between', first);
      this.#sink.slice('comment', single, 0, 1);
      this.#sink.slice('comment', bytes, at, at + 1);
      return at + 1;
    }
    this.#startStatement();
    this.#sink.slice('statement', single, 0, 1);
    return at;
  }

  #startStatement(): void {
    this.#state = 'statement';
    this.#previous = 0;
    this.#behindEscapeString = 'no';
    this.#word = '';
    this.#inWord = false;
    this.#inNumber = false;
    this.#words = 0;
    this.#createWords = '';
    this.#beginDepth = 0;
    this.#depth = 0;
    this.#groups = 0;
  }

  #startComment(outer: 'between' | 'statement', first: number): void {
    this.#outer = outer;
    this.#previous = 0;
    this.#commentDepth = 1;
    this.#state = first === DASH ? 'line-comment' : 'block-comment';
  }

  /** Lexes outside of quotes until the state changes; the slice it reports ends there. */
  #statement(bytes: Buffer, start: number): number {
    const length = bytes.length;
    let at = start;
    while (at < length && this.#state === 'statement') {
      if (this.#inWord) {
        at = this.#restOfWord(bytes, at);
        continue;
      }
      const byte = bytes[at] ?? 0;
      const kind = CLASS[byte];
      if (this.#inNumber) {
        if (kind !== WORD_START && kind !== DIGIT && byte !== DOT) this.#inNumber = false;
        else at++;
      } else if (kind === SPACE) {
        if (this.#behindEscapeString !== 'no') this.#spaceBehindEscapeString(byte);
        this.#previous = 0;
        at++;
      } else if (kind === SPECIAL) {
        this.#special(byte);
        at++;
      } else {
        this.#behindEscapeString = 'no';
        this.#previous = 0;
        this.#inNumber = kind === DIGIT;
        if (kind === WORD_START) {
          this.#inWord = true;
          this.#word = '';
        } else {
          at++;
        }
      }
    }
    if (at > start) this.#sink.slice('statement', bytes, start, at);
    if (this.#state === 'between') this.#endStatement();
    return at;
  }

  /** Reads on in a word, up to its end or that of the bytes. */
  #restOfWord(bytes: Buffer, start: number): number {
    let end = start;
    while (end < bytes.length) {
      const byte = bytes[end] ?? 0;
      const kind = CLASS[byte];
      if (kind !== WORD_START && kind !== DIGIT && byte !== DOLLAR) break;
      end++;
    }
    if (this.#word.length <= LONGEST_WORD) {
      this.#word += bytes.toString('latin1', start, Math.min(end, start + LONGEST_WORD + 1));
    }
    if (end === bytes.length) return end;
    this.#inWord = false;
    if (bytes[end] === QUOTE && (this.#word === 'E' || this.#word === 'e')) {
      this.#state = 'escape-string';
      return end + 1;
    }
    this.#endWord();
    return end;
  }

  #spaceBehindEscapeString(byte: number): void {
    if (this.#previous === DASH) this.#behindEscapeString = 'no';
    else if (byte === NEWLINE || byte === RETURN) this.#behindEscapeString = 'line-end';
    else if (this.#behindEscapeString === 'directly') this.#behindEscapeString = 'space';
  }

  #special(byte: number): void {
    const previous = this.#previous;
    const behind = this.#behindEscapeString;
    this.#previous = 0;
    // A dash may begin a comment, behind which a string may still continue.
    if (byte !== DASH) this.#behindEscapeString = 'no';
    switch (byte) {
      case QUOTE: {
        const continues = previous !== DASH && (behind === 'directly' || behind === 'line-end');
        this.#state = this.#everyStringEscapes || continues ? 'escape-string' : 'string';
        return;
      }
      case DOUBLE_QUOTE:
        this.#state = 'name';
        return;
      case DOLLAR:
        this.#state = 'dollar-tag';
        this.#tag = '';
        return;
      case DASH:
        if (previous === DASH) this.#startComment('statement', DASH);
        else this.#previous = DASH;
        return;
      case SLASH:
        this.#previous = SLASH;
        return;
      case STAR:
        if (previous === SLASH) this.#startComment('statement', SLASH);
        return;
      case BACKSLASH:
        this.#sink.metaInStatement();
        return;
      case OPEN:
        if (this.#depth === 0) this.#groups++;
        this.#depth++;
        return;
      case CLOSE:
        if (this.#depth > 0) this.#depth--;
        return;
      default:
        // A semicolon ends the statement outside of parentheses (rules have several actions in them) and of BEGIN … END.
        if (this.#depth === 0 && this.#beginDepth === 0) this.#state = 'between';
    }
  }

  /** psql's own heuristic, word by word: CREATE [OR REPLACE] FUNCTION or PROCEDURE may have a body BEGIN ATOMIC … END. */
  #endWord(): void {
    const nth = this.#words++;
    if (nth < 4) {
      const word = this.#word.toLowerCase();
      this.#createWords += ROUTINE_WORDS.has(word) ? word.charAt(0) : ' ';
    }
    // Nothing but CREATE at the first place makes the other words worth a look.
    if (this.#depth > 0 || !this.#createWords.startsWith('c')) return;
    if (!/^c(?:f|p|or(?:f|p))/.test(this.#createWords)) return;
    const word = this.#word.toLowerCase();
    if (word === 'begin') this.#beginDepth++;
    else if (word === 'case' && this.#beginDepth > 0) this.#beginDepth++;
    else if (word === 'end' && this.#beginDepth > 0) this.#beginDepth--;
  }

  #endStatement(): void {
    this.#state = this.#sink.statement({ groups: this.#groups }) === 'rows' ? 'copy-start' : 'between';
    this.#previous = 0;
  }

  /** A line that ends before its newline. A comment also ends at a carriage return, a psql command does not. */
  #line(bytes: Buffer, start: number, kind: 'comment' | 'meta'): number {
    let end = bytes.indexOf(NEWLINE, start);
    if (end === -1) end = bytes.length;
    if (kind === 'comment') {
      const cut = bytes.subarray(start, end).indexOf(RETURN);
      if (cut !== -1) end = start + cut;
    }
    const within = kind === 'comment' && this.#outer === 'statement';
    if (end > start) this.#sink.slice(within ? 'statement' : kind, bytes, start, end);
    if (end === bytes.length) return end;
    this.#state = within ? 'statement' : 'between';
    if (!within) this.#sink.line(kind, true);
    return end;
  }

  #blockComment(bytes: Buffer, start: number): number {
    let at = start;
    while (at < bytes.length && this.#commentDepth > 0) {
      const byte = bytes[at++] ?? 0;
      if (byte === SLASH && this.#previous === STAR) {
        this.#commentDepth--;
        this.#previous = 0;
      } else if (byte === STAR && this.#previous === SLASH) {
        this.#commentDepth++;
        this.#previous = 0;
      } else {
        this.#previous = byte;
      }
    }
    const within = this.#outer === 'statement';
    this.#sink.slice(within ? 'statement' : 'comment', bytes, start, at);
    if (this.#commentDepth > 0) return at;
    this.#previous = 0;
    this.#state = this.#outer;
    if (!within) this.#sink.line('comment', true);
    return at;
  }

  /** A doubled quote ends the string and starts the next one, which comes to the same. */
  #until(bytes: Buffer, start: number, quote: number): number {
    const found = bytes.indexOf(quote, start);
    const end = found === -1 ? bytes.length : found + 1;
    this.#sink.slice('statement', bytes, start, end);
    if (found !== -1) {
      this.#state = 'statement';
      this.#behindEscapeString = 'no';
    }
    return end;
  }

  #escapeString(bytes: Buffer, start: number): number {
    let at = start;
    while (at < bytes.length) {
      const byte = bytes[at++];
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) {
        this.#state = 'statement';
        this.#behindEscapeString = 'directly';
        break;
      }
    }
    this.#sink.slice('statement', bytes, start, at);
    return at;
  }

  /** After a `$`: the tag up to the second one, or no dollar quote at all (`$1`). */
  #dollarTag(bytes: Buffer, start: number): number {
    let at = start;
    while (at < bytes.length) {
      const byte = bytes[at] ?? 0;
      const kind = CLASS[byte];
      if (byte === DOLLAR) {
        at++;
        this.#state = 'dollar-body';
        this.#dollarMatched = 0;
        break;
      }
      // A tag is never as long as this (names have 63 bytes); a longer word is a word.
      if ((kind !== WORD_START && !(kind === DIGIT && this.#tag !== '')) || this.#tag.length > 1024) {
        this.#state = 'statement';
        this.#inWord = this.#tag !== '';
        this.#word = this.#tag.slice(0, LONGEST_WORD + 1);
        break;
      }
      this.#tag += String.fromCharCode(byte);
      at++;
    }
    if (at > start) this.#sink.slice('statement', bytes, start, at);
    return at;
  }

  #dollarBody(bytes: Buffer, start: number): number {
    const tag = this.#tag;
    let at = start;
    while (at < bytes.length) {
      if (this.#dollarMatched === 0) {
        const dollar = bytes.indexOf(DOLLAR, at);
        at = dollar === -1 ? bytes.length : dollar + 1;
        if (dollar !== -1) this.#dollarMatched = 1;
        continue;
      }
      const byte = bytes[at++] ?? 0;
      if (this.#dollarMatched <= tag.length) {
        if (byte === tag.charCodeAt(this.#dollarMatched - 1)) this.#dollarMatched++;
        else this.#dollarMatched = byte === DOLLAR ? 1 : 0;
      } else if (byte === DOLLAR) {
        this.#state = 'statement';
        break;
      } else {
        this.#dollarMatched = 0;
      }
    }
    this.#sink.slice('statement', bytes, start, at);
    return at;
  }

  #copyStart(bytes: Buffer, start: number): number {
    let at = start;
    while (at < bytes.length && bytes[at] !== NEWLINE) {
      if (CLASS[bytes[at] ?? 0] !== SPACE) {
        throw new CellarError(
          'unsupported-format',
          'The script has more on the line of a COPY … FROM stdin statement.',
          {
            hint: 'pg_dump ends the line there. Restore this script with psql by hand.',
          },
        );
      }
      at++;
    }
    if (at < bytes.length) {
      at++;
      this.#state = 'rows';
      this.#search.begin();
    }
    this.#sink.slice('space', bytes, start, at);
    return at;
  }

  #copyRows(bytes: Buffer, start: number): number {
    const found = this.#search.find(bytes, start);
    const end = found === -1 ? bytes.length : found;
    this.#sink.slice('rows', bytes, start, end);
    if (found !== -1) {
      this.#state = 'between';
      this.#sink.rows(this.#search.rows);
    }
    return end;
  }
}
