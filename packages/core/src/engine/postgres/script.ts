/**
 * Reads scripts of pg_dump (9.0 to 18, and what is like them) as they pass by: which tables have how many rows, how many large
 * objects, which versions made it, and whether it is whole. pg_dump's closing line is the only sign that a script was not cut, so
 * one without it is damaged.
 */
import { CellarError, throwIfAborted } from '../../errors.ts';
import type { ScriptLocator } from '../engine.ts';
import { decodeName, refuseUnsafeEncoding } from './script-encoding.ts';
import { type ItemKind, ScriptLexer, type ScriptSink, type StatementShape } from './script-lexer.ts';
import { Slices } from './script-slices.ts';
import { type InsertStatement, type RawTableName, readStatement, type Statement } from './script-statement.ts';

const DUMP_COMPLETE = '-- PostgreSQL database dump complete';
const CLUSTER_DUMP = '-- PostgreSQL database cluster dump';
/** A COPY statement of 1,600 columns with names of 63 bytes, all of them doubled quotes, is shorter. */
const LONGEST_HEAD = 256 * 1024;

const NEWLINE = 10;
const SPACE = 32;
const OPEN = 40;

/** See `Engine.inspectScript`. Memory does not grow with the script. */
export async function inspectScript(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<ScriptLocator> {
  const scanner = new ScriptScanner();
  for await (const chunk of bytes) {
    throwIfAborted(signal);
    scanner.push(chunk);
  }
  return scanner.finish();
}

/** Reads a script piece by piece. */
export class ScriptScanner {
  readonly #inspector = new ScriptInspector();
  readonly #lexer = new ScriptLexer(this.#inspector);

  constructor() {
    this.#inspector.attach(this.#lexer);
  }

  /** Throws `unsupported-format` for what cannot be a dump of one database. */
  push(chunk: Uint8Array): void {
    this.#lexer.push(chunk);
    this.#inspector.chunkDone();
  }

  /** Throws `damaged` where the script is cut or was never finished. */
  finish(): ScriptLocator {
    return this.#inspector.finish(this.#lexer.end());
  }
}

interface Counted {
  readonly table: RawTableName;
  /** Undefined where only the server could tell. */
  rows: number | undefined;
}

/** The sink that gathers the facts. Others wrap it and look at `latest` and `head` for what was read. */
export class ScriptInspector implements ScriptSink {
  /** The statement that ended last. */
  latest: Statement = { kind: 'empty' };
  readonly #head = new Slices();
  readonly #tables = new Map<string, Counted>();
  #lexer: ScriptLexer | undefined;
  /** The last INSERT … VALUES that was read, and its bytes up to VALUES. */
  #repeated: { readonly insert: InsertStatement | undefined; readonly beginning: Buffer } = {
    insert: undefined,
    beginning: Buffer.alloc(0),
  };
  #copied: RawTableName = { schema: undefined, name: '' };
  #searchPath = 'public';
  #largeObjects = 0;
  #serverVersion = '';
  #toolVersion = '';
  #encoding = '';
  #restrictKey: string | undefined;
  /** How much of pg_dump's closing lines was seen. */
  #closing: 'none' | 'said' | 'closed' = 'none';

  /** The lexer to be told of settings that change how strings are read. */
  attach(lexer: ScriptLexer): void {
    this.#lexer = lexer;
  }

  /** The bytes of the item in hand, as far as they are kept. */
  head(): Buffer {
    return this.#head.joined();
  }

  chunkDone(): void {
    this.#head.copyOut();
  }

  slice(kind: ItemKind, bytes: Buffer, start: number, end: number): void {
    if (kind === 'space' || kind === 'rows') return;
    const room = LONGEST_HEAD - this.#head.size;
    if (room > 0) this.#head.add(bytes, start, Math.min(end, start + room));
  }

  statement(shape: StatementShape): 'sql' | 'rows' {
    const statement = this.#read(this.#head.joined(), shape.groups);
    this.#head.clear();
    this.latest = statement;
    this.#closing = 'none';
    switch (statement.kind) {
      case 'copy-in':
        if (!statement.text) {
          throw new CellarError(
            'unsupported-format',
            'The script copies rows in CSV or binary form, which pg_dump never writes.',
            {
              hint: 'Restore this script with psql by hand.',
            },
          );
        }
        this.#copied = statement.table;
        return 'rows';
      case 'insert':
        this.#count(statement.table, statement.rows);
        break;
      case 'large-object':
        this.#largeObjects++;
        break;
      case 'set':
        this.#setting(statement.name, statement.values[0] ?? '');
        break;
      case 'set-config':
        this.#setting(statement.name, statement.value.split(',')[0]?.trim() ?? '');
        break;
      default:
        break;
    }
    return 'sql';
  }

  /** A dump by INSERTs repeats one beginning for every row: it is read once. */
  #read(head: Buffer, groups: number): Statement {
    const { insert, beginning } = this.#repeated;
    const size = beginning.length;
    if (insert?.values !== undefined && head.length > size && head.compare(beginning, 0, size, 0, size) === 0) {
      const next = head[size] ?? 0;
      if (next === SPACE || next === NEWLINE || next === OPEN) {
        return { kind: 'insert', table: insert.table, rows: groups - insert.values.groupsBefore };
      }
    }
    const statement = readStatement(head, groups);
    if (statement.kind === 'insert' && statement.values !== undefined) {
      this.#repeated = { insert: statement, beginning: Buffer.from(head.subarray(0, statement.values.position)) };
    }
    return statement;
  }

  line(kind: 'comment' | 'meta', whole: boolean): void {
    const text = this.#head.joined().toString('latin1');
    this.#head.clear();
    if (kind === 'meta') {
      const [, command, key] = /^\\(restrict|unrestrict) +(\S+)/.exec(text) ?? [];
      if (command === 'restrict') this.#restrictKey = key;
      if (command === 'unrestrict' && key === this.#restrictKey && whole) this.#restrictKey = undefined;
      return;
    }
    if (text === DUMP_COMPLETE && whole) this.#closing = 'said';
    else if (this.#closing === 'said' && text === '--' && whole) this.#closing = 'closed';
    else if (text === CLUSTER_DUMP) {
      throw new CellarError(
        'unsupported-format',
        'The script is a dump of a whole server by pg_dumpall, not of one database.',
        {
          hint: 'Restore it with psql by hand, on a server of its own.',
        },
      );
    } else this.#readVersion(text);
  }

  rows(count: number): void {
    this.#count(this.#copied, count);
  }

  metaInStatement(): void {}

  /** @param inside what the script ended inside of, as the lexer says. */
  finish(inside: string | undefined): ScriptLocator {
    const last = [...this.#tables.values()].at(-1);
    if (inside !== undefined) {
      const where = inside === 'the rows of a table' ? `the rows of ${this.#readable(this.#copied)}` : inside;
      throw cut(`it ends inside of ${where}`);
    }
    if (this.#closing !== 'closed' || this.#restrictKey !== undefined) {
      const after = last === undefined ? '' : `; the last rows are those of ${this.#readable(last.table)}`;
      throw cut(`pg_dump's closing lines are missing${after}`);
    }
    const tables: { schema: string; name: string; rows: number }[] = [];
    for (const { table, rows } of this.#tables.values()) {
      if (rows === undefined) continue;
      tables.push({ schema: this.#decode(table.schema ?? 'public'), name: this.#decode(table.name), rows });
    }
    return {
      tables,
      largeObjects: this.#largeObjects,
      serverVersion: this.#serverVersion,
      toolVersion: this.#toolVersion,
      encoding: this.#encoding,
      complete: true,
    };
  }

  #count(named: RawTableName, rows: number | undefined): void {
    // Before the versions of 2018 dumps set a search path and leave the schema away.
    const table = { schema: named.schema ?? this.#searchPath, name: named.name };
    const key = `${table.schema}\0${table.name}`;
    const counted = this.#tables.get(key);
    if (counted === undefined) this.#tables.set(key, { table, rows });
    else counted.rows = counted.rows === undefined || rows === undefined ? undefined : counted.rows + rows;
  }

  #setting(name: string, value: string): void {
    if (name === 'standard_conforming_strings') this.#lexer?.setStandardStrings(value.toLowerCase() !== 'off');
    else if (name === 'search_path') this.#searchPath = value === '' ? 'public' : value;
    else if (name === 'client_encoding') {
      refuseUnsafeEncoding(value);
      if (this.#encoding === '') this.#encoding = value;
    }
  }

  #readVersion(text: string): void {
    const [, by, version] = /^-- Dumped (from database|by pg_dump) version (\S+)/.exec(text) ?? [];
    if (by === 'from database' && this.#serverVersion === '') this.#serverVersion = version ?? '';
    if (by === 'by pg_dump' && this.#toolVersion === '') this.#toolVersion = version ?? '';
  }

  #decode(raw: string): string {
    return decodeName(raw, this.#encoding);
  }

  #readable(table: RawTableName): string {
    return `${this.#decode(table.schema ?? this.#searchPath)}.${this.#decode(table.name)}`;
  }
}

function cut(how: string): CellarError {
  return new CellarError('damaged', `The script is cut off or was never finished: ${how}.`, {
    hint: 'Use another backup; what is whole of this one can be taken out by hand.',
  });
}
