/**
 * Reads the beginning of one SQL statement as pg_dump of any version writes it, as far as is needed to know what the statement is
 * about: which table's rows follow, which setting changes, whether it touches the database itself. No full parser: what is not
 * recognised is `other`.
 */

/** Names as bytes in the script's encoding (a `latin1` string), so that no encoding is needed to compare them. */
export interface RawTableName {
  readonly schema: string | undefined;
  readonly name: string;
}

export interface InsertStatement {
  readonly kind: 'insert';
  readonly table: RawTableName;
  /** Undefined where only the server could tell (INSERT … SELECT). */
  readonly rows: number | undefined;
  /** Of INSERT … VALUES: where the rows begin, and the parentheses before. */
  readonly values?: { readonly position: number; readonly groupsBefore: number };
}

export type Statement =
  | { readonly kind: 'copy-in'; readonly table: RawTableName; readonly text: boolean }
  /** Any other COPY: of files and programs of the server, or out of the database. */
  | { readonly kind: 'copy-other' }
  | InsertStatement
  | { readonly kind: 'set'; readonly name: string; readonly values: readonly string[] }
  | { readonly kind: 'set-config'; readonly name: string; readonly value: string }
  | { readonly kind: 'large-object' }
  /** Creates, drops, renames or changes a database, or what is granted or said on it. */
  | { readonly kind: 'database' }
  | { readonly kind: 'transaction'; readonly step: 'begin' | 'commit' | 'other' }
  /** Removes something, as the statements do that `--clean` puts first. */
  | { readonly kind: 'drop'; readonly object: string }
  /** Gives an object to a role. */
  | { readonly kind: 'owner' }
  /** GRANT, REVOKE, ALTER DEFAULT PRIVILEGES. */
  | { readonly kind: 'privilege' }
  | { readonly kind: 'create-schema'; readonly name: string }
  | { readonly kind: 'create-view' }
  | { readonly kind: 'empty' }
  | { readonly kind: 'other' };

interface Token {
  readonly kind: 'word' | 'quoted' | 'string' | 'symbol';
  /** Words in lower case; quoted names and strings without their quotes. */
  readonly text: string;
}

/** Bytes in which all that matters of a statement but COPY stands. */
const HEAD = 1024;

/**
 * @param bytes the statement from its first byte, whole or cut at a length no COPY statement reaches.
 * @param groups parentheses at the outermost level (see the lexer), for counting the rows of an INSERT.
 */
export function readStatement(bytes: Buffer, groups: number): Statement {
  const tokens = new Tokens(bytes.toString('latin1', 0, Math.min(bytes.length, HEAD)));
  const first = tokens.next();
  if (first === undefined || (first.kind === 'symbol' && first.text === ';')) return { kind: 'empty' };
  if (first.kind !== 'word') return OTHER;
  switch (first.text) {
    case 'insert':
      return readInsert(tokens, groups);
    case 'copy':
      return readCopy(new Tokens(bytes.toString('latin1')));
    case 'set':
      return readSet(tokens);
    case 'select':
      return readSelect(tokens);
    case 'begin':
    case 'start':
      return { kind: 'transaction', step: 'begin' };
    case 'commit':
    case 'end':
      return { kind: 'transaction', step: tokens.word() === 'prepared' ? 'other' : 'commit' };
    case 'rollback':
    case 'abort':
    case 'savepoint':
    case 'release':
    case 'prepare':
      return { kind: 'transaction', step: 'other' };
    case 'create':
      return readCreate(tokens);
    case 'drop':
      return readDrop(tokens);
    case 'alter':
      return readAlter(tokens);
    case 'comment':
    case 'security':
      return tokens.skipTo('on') && tokens.word() === 'database' ? DATABASE : OTHER;
    case 'grant':
    case 'revoke':
      return tokens.skipTo('on') && tokens.word() === 'database' ? DATABASE : { kind: 'privilege' };
    case 'update':
      return tokens.table()?.name === 'pg_database' ? DATABASE : OTHER;
    default:
      return OTHER;
  }
}

const OTHER: Statement = { kind: 'other' };
const DATABASE: Statement = { kind: 'database' };

/** COPY [BINARY] table [(columns)] [WITH OIDS] FROM STDIN [WITH] [options]: manual, COPY, with the forms before 9.0. */
function readCopy(tokens: Tokens): Statement {
  tokens.next();
  let start = tokens.position;
  if (tokens.word() !== 'binary') tokens.position = start;
  const table = tokens.table();
  if (table === undefined) return { kind: 'copy-other' };
  let token = tokens.next();
  if (token?.text === '(' && token.kind === 'symbol') {
    tokens.skipGroup();
    token = tokens.next();
  }
  let text = true;
  if (token?.text === 'with' && tokens.word() === 'oids') token = tokens.next();
  if (token?.text !== 'from' || tokens.word() !== 'stdin') return { kind: 'copy-other' };
  start = tokens.position;
  // Options other than the delimiter or null string may mean quoted newlines or binary rows.
  for (token = tokens.next(); token !== undefined; token = tokens.next()) {
    if (token.kind === 'word' && (token.text === 'csv' || token.text === 'binary' || token.text === 'format'))
      text = false;
  }
  return { kind: 'copy-in', table, text };
}

function readInsert(tokens: Tokens, groups: number): Statement {
  if (tokens.word() !== 'into') return OTHER;
  const table = tokens.table();
  if (table === undefined) return OTHER;
  const start = tokens.position;
  let token = tokens.next();
  const columns = token?.kind === 'symbol' && token.text === '(';
  if (columns) {
    if (!tokens.skipGroup()) return { kind: 'insert', table, rows: Math.max(groups - 1, 1) };
    token = tokens.next();
  } else {
    tokens.position = start;
    token = tokens.next();
  }
  if (token?.text === 'overriding') {
    tokens.next();
    tokens.next();
    token = tokens.next();
  }
  if (token?.kind !== 'word') return { kind: 'insert', table, rows: undefined };
  if (token.text === 'default') return { kind: 'insert', table, rows: 1 };
  if (token.text !== 'values') return { kind: 'insert', table, rows: undefined };
  const groupsBefore = columns ? 1 : 0;
  return { kind: 'insert', table, rows: groups - groupsBefore, values: { position: tokens.position, groupsBefore } };
}

function readSet(tokens: Tokens): Statement {
  let token = tokens.next();
  if (token?.text === 'session' || token?.text === 'local') token = tokens.next();
  if (token === undefined) return OTHER;
  const name = token.text;
  const sign = tokens.next();
  if (sign?.text !== '=' && sign?.text !== 'to') return { kind: 'set', name, values: [] };
  const values: string[] = [];
  for (let value = tokens.next(); value !== undefined && value.text !== ';'; value = tokens.next()) {
    if (value.kind !== 'symbol') values.push(value.text);
  }
  return { kind: 'set', name, values };
}

/** `SELECT pg_catalog.set_config('search_path', '', false);`, `SELECT pg_catalog.lo_create('1234');`, … */
function readSelect(tokens: Tokens): Statement {
  const called = tokens.table();
  if (called === undefined || (called.schema !== undefined && called.schema !== 'pg_catalog')) return OTHER;
  switch (called.name) {
    case 'lo_create':
      return { kind: 'large-object' };
    case 'lo_unlink':
      return { kind: 'drop', object: 'large object' };
    case 'set_config': {
      tokens.next();
      const name = tokens.next();
      tokens.next();
      const value = tokens.next();
      return name === undefined || value === undefined
        ? OTHER
        : { kind: 'set-config', name: name.text, value: value.text };
    }
    default:
      return OTHER;
  }
}

function readCreate(tokens: Tokens): Statement {
  switch (tokens.word()) {
    case 'database':
      return DATABASE;
    case 'schema': {
      const name = tokens.next();
      // CREATE SCHEMA with more to it than a name is something else.
      return name !== undefined && tokens.next()?.text === ';' ? { kind: 'create-schema', name: name.text } : OTHER;
    }
    case 'or':
      return tokens.word() === 'replace' && tokens.word() === 'view' ? { kind: 'create-view' } : OTHER;
    default:
      return OTHER;
  }
}

function readDrop(tokens: Tokens): Statement {
  const object = tokens.word() ?? '';
  if (object === 'database') return DATABASE;
  if (object !== 'schema') return { kind: 'drop', object };
  const start = tokens.position;
  if (tokens.word() === 'if') tokens.next();
  else tokens.position = start;
  return { kind: 'drop', object: `schema ${tokens.next()?.text ?? ''}` };
}

/** Of ALTER statements, `--clean` writes those that drop a constraint, a default or a partition's bond. */
function readAlter(tokens: Tokens): Statement {
  const object = tokens.word() ?? '';
  if (object === 'database') return DATABASE;
  if (object === 'default') return { kind: 'privilege' };
  if (object === 'role' || object === 'user') {
    return tokens.skipTo('in') && tokens.word() === 'database' ? DATABASE : OTHER;
  }
  const droppable = ['table', 'domain', 'foreign', 'publication'].includes(object);
  for (let token = tokens.next(); token !== undefined; token = tokens.next()) {
    if (token.kind !== 'word') continue;
    if (token.text === 'owner' && tokens.word() === 'to') return { kind: 'owner' };
    if (droppable && (token.text === 'drop' || token.text === 'detach')) return { kind: 'drop', object };
    if (['add', 'set', 'attach'].includes(token.text)) return OTHER;
  }
  return OTHER;
}

/** The tokens of a statement's beginning, one after the other. A cut last token counts as absent. */
class Tokens {
  position = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  next(): Token | undefined {
    const text = this.#text;
    SKIPPED.lastIndex = this.position;
    this.position += SKIPPED.exec(text)?.[0].length ?? 0;
    TOKEN.lastIndex = this.position;
    const match = TOKEN.exec(text);
    if (match === null) return undefined;
    this.position += match[0].length;
    const [, word, quoted, string, symbol] = match;
    if (word !== undefined) return { kind: 'word', text: lowerAscii(word) };
    if (quoted !== undefined) return { kind: 'quoted', text: quoted.replaceAll('""', '"') };
    if (string !== undefined) return { kind: 'string', text: string.replaceAll("''", "'") };
    return { kind: 'symbol', text: symbol ?? '' };
  }

  /** The next token when it is a word; otherwise undefined, and the token is gone. */
  word(): string | undefined {
    const token = this.next();
    return token?.kind === 'word' ? token.text : undefined;
  }

  /** `name`, `schema.name`, `database.schema.name`; an ONLY before it is passed over. */
  table(): RawTableName | undefined {
    let token = this.next();
    if (token?.kind === 'word' && token.text === 'only') token = this.next();
    const parts: string[] = [];
    while (token !== undefined && (token.kind === 'word' || token.kind === 'quoted')) {
      parts.push(token.text);
      const start = this.position;
      if (this.next()?.text !== '.') {
        this.position = start;
        break;
      }
      token = this.next();
    }
    const name = parts.at(-1);
    return name === undefined ? undefined : { schema: parts.at(-2), name };
  }

  /** Passes over tokens up to and with the word. */
  skipTo(word: string): boolean {
    for (let token = this.next(); token !== undefined; token = this.next()) {
      if (token.kind === 'word' && token.text === word) return true;
    }
    return false;
  }

  /** Passes over what is left of a group in parentheses whose first was read. */
  skipGroup(): boolean {
    let depth = 1;
    for (let token = this.next(); token !== undefined; token = this.next()) {
      if (token.kind !== 'symbol') continue;
      if (token.text === '(') depth++;
      else if (token.text === ')' && --depth === 0) return true;
    }
    return false;
  }
}

const SKIPPED = /(?:[ \t\n\v\f\r]+|--[^\n\r]*|\/\*[\s\S]*?\*\/)*/y;
const TOKEN = /([A-Za-z_\x80-\xff][A-Za-z_0-9$\x80-\xff]*)|"([^"]*(?:""[^"]*)*)"|'([^']*(?:''[^']*)*)'|([\s\S])/y;

/** As the server folds unquoted names of ASCII letters. */
function lowerAscii(text: string): string {
  if (!/[A-Z]/.test(text)) return text;
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
