/**
 * Makes a script of pg_dump safe to load into a database of our choice, inside of one transaction if need be. Taken out are psql's
 * commands, what touches the database itself (the script may come from another one, which may be live), and the DROPs that
 * `--clean` puts first; all else passes byte for byte. A script that could run programs or read files on this machine is refused.
 */
import { CellarError, throwIfAborted } from '../../errors.ts';
import type { ScriptLocator } from '../engine.ts';
import { ScriptInspector } from './script.ts';
import { type ItemKind, ScriptLexer, type ScriptSink, type StatementShape } from './script-lexer.ts';
import { Slices } from './script-slices.ts';
import { readStatement, type Statement } from './script-statement.ts';

export interface SanitiseOptions {
  /**
   * `drop` (default): BEGIN and COMMIT are taken out, for loading all in one transaction (`psql --single-transaction`); large objects
   * need one. `keep`: they stay, for loading statement by statement.
   */
  readonly transactions?: 'drop' | 'keep';
  /** `drop` takes out ALTER … OWNER TO. */
  readonly owners?: 'keep' | 'drop';
  /** `drop` takes out GRANT, REVOKE and ALTER DEFAULT PRIVILEGES. */
  readonly privileges?: 'keep' | 'drop';
}

/** A statement longer than this is judged by its beginning. */
const JUDGED = 64 * 1024;

/**
 * The script without what must not be run; returns what it holds. Yielded arrays are valid until the next one is asked for.
 * Throws `damaged` at the end of a script that is cut (so load it where it can be thrown away), and `unsupported-format` for psql
 * commands other than pg_dump's own, before any byte of them has passed.
 */
export async function* sanitiseScript(
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  options: SanitiseOptions = {},
): AsyncGenerator<Uint8Array, ScriptLocator, undefined> {
  const sanitiser = new Sanitiser(options);
  const lexer = new ScriptLexer(sanitiser);
  sanitiser.inspector.attach(lexer);
  for await (const chunk of bytes) {
    throwIfAborted(signal);
    lexer.push(chunk);
    yield* sanitiser.take();
  }
  const inside = lexer.end();
  yield* sanitiser.take();
  return sanitiser.inspector.finish(inside);
}

class Sanitiser implements ScriptSink {
  readonly inspector = new ScriptInspector();
  readonly #options: SanitiseOptions;
  readonly #out = new Slices();
  /** The statement or psql command in hand, until it is judged. */
  readonly #held = new Slices();
  #judged: 'not-yet' | 'keep' | 'drop' = 'not-yet';
  /** Before the first object: only here stand the DROPs of `--clean`. */
  #opening = true;
  #dropped = false;
  #droppedPublic = false;
  /** Something was kept that makes or fills an object. */
  #begun = false;

  constructor(options: SanitiseOptions) {
    this.#options = options;
  }

  /** What may pass so far. */
  take(): Buffer[] {
    this.inspector.chunkDone();
    this.#held.copyOut();
    return this.#out.take();
  }

  slice(kind: ItemKind, bytes: Buffer, start: number, end: number): void {
    this.inspector.slice(kind, bytes, start, end);
    if (kind === 'meta') return;
    if (kind !== 'statement') {
      this.#out.add(bytes, start, end);
      return;
    }
    if (this.#judged === 'drop') return;
    if (this.#judged === 'keep') {
      this.#out.add(bytes, start, end);
      return;
    }
    this.#held.add(bytes, start, end);
    if (this.#held.size > JUDGED) this.#judge(readStatement(this.inspector.head(), 0));
  }

  statement(shape: StatementShape): 'sql' | 'rows' {
    const follows = this.inspector.statement(shape);
    if (this.#judged === 'not-yet') this.#judge(this.inspector.latest);
    this.#judged = 'not-yet';
    return follows;
  }

  line(kind: 'comment' | 'meta', whole: boolean): void {
    const text = this.inspector.head().toString('latin1');
    this.inspector.line(kind, whole);
    if (kind === 'meta') this.#metaCommand(text);
    else if (/^-- (?:Name: |TOC entry |Data for Name: )/.test(text)) this.#opening = false;
  }

  rows(count: number): void {
    this.inspector.rows(count);
  }

  metaInStatement(): void {
    throw refused('a psql command in the middle of a statement');
  }

  #judge(statement: Statement): void {
    const keep = this.#keeps(statement);
    this.#begun ||= keep && !['set', 'set-config', 'empty'].includes(statement.kind);
    if (keep) this.#out.append(this.#held);
    this.#held.clear();
    this.#judged = keep ? 'keep' : 'drop';
  }

  #keeps(statement: Statement): boolean {
    switch (statement.kind) {
      case 'database':
        return false;
      case 'copy-other':
        throw refused('a COPY other than of the rows that follow it');
      case 'transaction':
        if (statement.step === 'other')
          throw refused('a statement that ends or parts a transaction by other than COMMIT');
        return this.#options.transactions === 'keep';
      case 'drop':
        if (!this.#opening) return true;
        this.#dropped = true;
        if (statement.object === 'schema public') this.#droppedPublic = true;
        return false;
      case 'create-view':
        // A view that others depend on in a circle is not dropped by `--clean`, but replaced by an empty one.
        return !(this.#opening && this.#dropped);
      case 'create-schema':
        // A fresh database has this one.
        return !(statement.name === 'public' && this.#droppedPublic);
      case 'owner':
        return this.#options.owners !== 'drop';
      case 'privilege':
        return this.#options.privileges !== 'drop';
      case 'set':
        // Of 17 and later; older servers refuse it, and zero is what it is anyway.
        return statement.name !== 'transaction_timeout';
      case 'set-config':
      case 'empty':
        return true;
      case 'copy-in':
      case 'insert':
      case 'large-object':
      case 'other':
        this.#opening = false;
        return true;
    }
  }

  #metaCommand(text: string): void {
    const command = /^\\(\S*)/.exec(text)?.[1] ?? '';
    if (command === 'restrict' || command === 'unrestrict') return;
    if (command === 'connect' || command === 'c') {
      // With --create it connects to the database it made, and again when that has got its settings; what follows goes into one database.
      if (this.#begun) throw refused('a connection to another database after its beginning');
      return;
    }
    throw refused(`the psql command \\${printable(command)}`);
  }
}

function refused(what: string): CellarError {
  return new CellarError(
    'unsupported-format',
    `The script holds ${what}, which pg_dump never writes: it was not run.`,
    {
      hint: 'Such commands can run programs and read files on this machine. Look into the script; if you trust it, restore it with psql by hand.',
    },
  );
}

function printable(command: string): string {
  return command.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 20);
}
