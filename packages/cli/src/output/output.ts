/**
 * Where the command line writes. Results go to stdout in one of three ways: as text for people, as one JSON document with `--json`,
 * or, with `--quiet`, as the bare names that a script wants. Everything that is said on the way goes to stderr.
 */
import { styleText } from 'node:util';
import type { Json } from '@cellar/core';
import { type Column, renderFacts, renderTable } from './table.ts';

export type OutputMode = 'text' | 'json' | 'quiet';

/** The three faces of one result; only the one that is asked for is made. */
export interface Result {
  readonly json: () => Json;
  readonly text: () => string;
  /** One name a line; empty where there is nothing a script could use. */
  readonly quiet?: () => string;
}

type Colour = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

export class Output {
  readonly mode: OutputMode;
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;

  constructor(mode: OutputMode, stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream) {
    this.mode = mode;
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  result(result: Result): void {
    switch (this.mode) {
      case 'json':
        this.#stdout.write(`${JSON.stringify(result.json(), null, 2)}\n`);
        return;
      case 'quiet':
        this.#writeText(result.quiet?.() ?? '');
        return;
      case 'text':
        this.#writeText(result.text());
    }
  }

  /** Something worth knowing while or after the work; not with `--quiet`. */
  note(text: string): void {
    if (this.mode !== 'quiet') this.#stderr.write(`${text}\n`);
  }

  /** Something that a person must see, also with `--quiet`. */
  warn(text: string): void {
    this.#stderr.write(`${this.styleError('yellow', 'Warning:')} ${text}\n`);
  }

  /** Text of a result for stdout, coloured where stdout can show it. */
  style(colour: Colour, text: string): string {
    return styleText(colour, text, { stream: this.#stdout });
  }

  styleError(colour: Colour, text: string): string {
    return styleText(colour, text, { stream: this.#stderr });
  }

  table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
    return renderTable(columns, rows, { width: this.#width(), colour: this.#colour() });
  }

  facts(facts: readonly (readonly [name: string, value: string | readonly string[] | undefined])[]): string {
    return renderFacts(facts, this.#colour());
  }

  #writeText(text: string): void {
    if (text !== '') this.#stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  }

  #width(): number | undefined {
    return this.#stdout.isTTY ? this.#stdout.columns : undefined;
  }

  #colour(): boolean {
    return styleText('bold', '', { stream: this.#stdout }) !== '';
  }
}
