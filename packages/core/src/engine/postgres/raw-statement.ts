/**
 * Statements in the bytes of a dump's own encoding. The driver writes text as UTF-8; definitions and COPY statements of an archive
 * may be LATIN1, so here the message is written as it is, to a connection whose client encoding is that of the dump.
 */
import type { Connection as DriverConnection, Submittable } from 'pg';
import { cancelled, throwIfAborted } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { statementError } from './database-error.ts';

/** Listens to the server's answers to one Query message. The driver calls these by name. */
export class RawQuery implements Submittable {
  readonly #statement: Uint8Array;
  readonly #onCopyOut: (row: Uint8Array) => void;
  readonly #tags: string[] = [];
  readonly #done: PromiseWithResolvers<readonly string[]> = Promise.withResolvers();
  readonly #copyIn: PromiseWithResolvers<void> = Promise.withResolvers();

  /** @param onCopyOut takes the rows of a COPY … TO STDOUT, one at a time. */
  constructor(statement: Uint8Array, onCopyOut: (row: Uint8Array) => void = () => {}) {
    this.#statement = statement;
    this.#onCopyOut = onCopyOut;
    // Whoever waits for one of the two learns of the failure; the other must not count as unhandled.
    this.#done.promise.catch(() => undefined);
    this.#copyIn.promise.catch(() => undefined);
  }

  /** The command tags, e.g. `COPY 5`, when the server is ready again. */
  get done(): Promise<readonly string[]> {
    return this.#done.promise;
  }

  /** Fulfilled when the server waits for COPY text. */
  get copyIn(): Promise<void> {
    return this.#copyIn.promise;
  }

  submit = (connection: DriverConnection): void => {
    const head = Buffer.alloc(5);
    head[0] = 'Q'.charCodeAt(0);
    head.writeUInt32BE(4 + this.#statement.length + 1, 1);
    connection.stream.write(Buffer.concat([head, this.#statement, Buffer.alloc(1)]));
  };

  handleCopyInResponse(): void {
    this.#copyIn.resolve();
  }

  handleCopyData(message: { readonly chunk: Uint8Array }): void {
    this.#onCopyOut(message.chunk);
  }

  handleCommandComplete(message: { readonly text: string }): void {
    this.#tags.push(message.text);
  }

  handleError(error: unknown): void {
    this.#done.reject(error);
    this.#copyIn.reject(error);
  }

  handleReadyForQuery(): void {
    this.#done.resolve(this.#tags);
    this.#copyIn.reject(new Error('The statement was no COPY … FROM STDIN.'));
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
}

/**
 * Runs SQL of one or several statements, none of them a COPY FROM STDIN. Their rows are dropped.
 * On an error it names the statement that failed, where the server tells its place.
 */
export async function runRawSql(
  connection: Connection,
  sql: Buffer,
  doing: string,
  signal: AbortSignal,
): Promise<void> {
  throwIfAborted(signal);
  const query = new RawQuery(sql);
  connection.client.query(query);
  try {
    await query.done;
  } catch (error) {
    if (signal.aborted) throw cancelled(signal);
    throw statementError(error, doing);
  }
}
