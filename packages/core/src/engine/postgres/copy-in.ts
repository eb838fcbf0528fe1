/**
 * Loads rows by `COPY … FROM STDIN`: CopyData messages of 128 KiB written straight to the socket, from pieces of any size, with
 * backpressure in both directions. The rows that the server counted come back, to be compared.
 */
import { CellarError, cancelled, throwIfAborted } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { statementError } from './database-error.ts';
import { RawQuery } from './raw-statement.ts';

const MESSAGE = 128 * 1024;
const HEADER = 5;
/** Messages that may be on their way to the kernel while the next one is filled. */
const IN_FLIGHT = 3;

export interface CopyInOptions {
  /** For messages: the table. */
  readonly title: string;
  /** Longest time in which the server takes nothing, 0 for none. */
  readonly stallTimeoutMs: number;
  /** Sees every byte, e.g. to digest it. The array is valid during the call only. */
  readonly onBytes?: (bytes: Uint8Array) => void;
}

/**
 * Runs the COPY statement (in the connection's client encoding) with `rows`, COPY text without terminator, as its input. Returns the
 * number of rows that the server says it loaded.
 *
 * A failure of `rows` ends the COPY with CopyFail and is thrown as it is; nothing of the statement stays. After `stalled` or an abort
 * the connection is cut.
 */
export async function copyIn(
  connection: Connection,
  statement: Uint8Array,
  rows: AsyncIterable<Uint8Array>,
  options: CopyInOptions,
  signal: AbortSignal,
): Promise<number> {
  throwIfAborted(signal);
  const socket = connection.client.connection.stream;
  const query = new RawQuery(statement);
  let stalled: CellarError | undefined;
  const failure = (error: unknown): CellarError => {
    if (signal.aborted) return cancelled(signal);
    return stalled ?? statementError(error, `load ${options.title}`);
  };
  /** Waits for the server, within the stall limit; the server's own error wins over a broken pipe. */
  const server = async <T>(promise: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    if (options.stallTimeoutMs > 0) {
      timer = setTimeout(() => {
        stalled = new CellarError(
          'stalled',
          `The server took no rows of ${options.title} for ${Math.round(options.stallTimeoutMs / 1000)} seconds.`,
          {
            hint: 'Look for a lock on the table or an overloaded server or network; or allow a longer silence.',
            retryable: true,
          },
        );
        socket.destroy();
      }, options.stallTimeoutMs);
    }
    try {
      return await promise;
    } catch (error) {
      throw failure(error);
    } finally {
      clearTimeout(timer);
    }
  };

  connection.client.query(query);
  await server(query.copyIn);

  /** Rejects when the server refuses a row while more are being sent. */
  const refused = query.done.then(() => new Promise<never>(() => undefined));
  refused.catch(() => undefined);
  const free = Array.from({ length: IN_FLIGHT }, () => Buffer.allocUnsafe(HEADER + MESSAGE));
  const flying: Promise<Buffer>[] = [];
  let filling = free.pop() as Buffer;
  let filled = 0;

  const send = async (): Promise<void> => {
    const message = filling;
    message[0] = 'd'.charCodeAt(0);
    message.writeUInt32BE(4 + filled, 1);
    flying.push(
      new Promise<Buffer>((resolve) => {
        socket.write(message.subarray(0, HEADER + filled), (error?: Error | null) => {
          // A broken pipe says nothing of the reason: `refused` brings it, or that the connection is gone.
          if (error === null || error === undefined) resolve(message);
        });
      }),
    );
    filling = free.pop() ?? (await server(Promise.race([flying.shift() as Promise<Buffer>, refused])));
    filled = 0;
  };

  try {
    for await (const some of rows) {
      options.onBytes?.(some);
      for (let start = 0; start < some.length; ) {
        const taken = Math.min(MESSAGE - filled, some.length - start);
        filling.set(some.subarray(start, start + taken), HEADER + filled);
        filled += taken;
        start += taken;
        if (filled === MESSAGE) await send();
      }
    }
    if (filled > 0) await send();
  } catch (error) {
    if (signal.aborted) throw cancelled(signal);
    await failCopy(connection, query);
    throw error;
  }
  await server(Promise.race([Promise.all(flying), refused]));
  connection.client.connection.stream.write(Buffer.from([0x63, 0, 0, 0, 4]));
  const tags = await server(query.done);
  const tag = tags.find((text) => text.startsWith('COPY '));
  if (tag === undefined)
    throw new CellarError('database-failed', `The server did not say how many rows of ${options.title} it loaded.`);
  return Number(tag.slice('COPY '.length));
}

/** Tells the server to forget the COPY, and waits until it is ready for the next statement (or gone). */
async function failCopy(connection: Connection, query: RawQuery): Promise<void> {
  const socket = connection.client.connection.stream;
  if (socket.destroyed || !socket.writable) return;
  const reason = Buffer.from('the rows could not be read\0', 'latin1');
  const message = Buffer.alloc(HEADER + reason.length);
  message[0] = 'f'.charCodeAt(0);
  message.writeUInt32BE(4 + reason.length, 1);
  message.set(reason, HEADER);
  socket.write(message);
  await query.done.catch(() => undefined);
}
