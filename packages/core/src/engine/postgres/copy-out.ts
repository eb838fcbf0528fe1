/**
 * Tables by `COPY … TO STDOUT` on a connection of one's own: the hot path of every dump. `pg` logs in (TLS, SCRAM and all); then
 * its socket is read here, since the server sends a message per row and anything done per row, beyond copying it, is what a dump costs.
 *
 *   socket ─▶ 256 KiB read buffer ─▶ CopyReader: payloads, gathered ─▶ 512 KiB buffers (two, in turn) ─▶ the chunker
 *
 * Message formats: PostgreSQL manual, 55.7 "Message Formats". The session's settings make equal rows equal bytes, and those of pg_dump.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { CellarError, cancelled } from '../../errors.ts';
import { type Connection, connect } from './connection.ts';
import { type CopyBuffers, CopyReader, copyBuffers, queryMessage } from './copy-reader.ts';
import { sqlStateOf, statementError } from './database-error.ts';
import { withoutTimeouts } from './snapshot.ts';
import type { Target } from './target.ts';

export interface CopySource {
  readonly target: Target;
  /** Exported by the coordinator; undefined: the session's own view. */
  readonly snapshotId: string | undefined;
  /** The database's encoding: rows come in it, as in pg_dump's archive. */
  readonly encoding: string;
  readonly lockTimeoutMs: number;
  readonly stallTimeoutMs: number;
}

export interface CopyConnection extends AsyncDisposable {
  /**
   * Runs one COPY. To be read to its end before the next; an array is valid until the next one is asked for.
   * `title` is for errors. Throws `database-failed`, `database-locked`, `stalled`, `cancelled`, ….
   */
  copy(statement: string, title: string): CopyStream;
}

export interface CopyStream {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Exact rows by the server's own count; throws before `bytes` has ended. */
  rows(): number;
}

const READ_BYTES = 256 * 1024;

/** Opens a connection that reads within the snapshot, with the settings of a dump. */
export async function openCopyConnection(source: CopySource, signal: AbortSignal): Promise<CopyConnection> {
  const feed = new SocketFeed();
  const connection = await connect(source.target, signal, { socket: () => feed.makeSocket() });
  try {
    await connection.query(sessionSettings(source, connection.serverMajor), 'prepare the session');
    await connection.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', 'begin a transaction');
    if (source.snapshotId !== undefined) {
      await connection.query(
        `SET TRANSACTION SNAPSHOT '${source.snapshotId.replaceAll("'", "''")}'`,
        'take up the snapshot',
      );
    }
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
  return {
    copy: (statement, title) => copyStream(connection, feed, statement, title, source.stallTimeoutMs, signal),
    async [Symbol.asyncDispose]() {
      await connection[Symbol.asyncDispose]();
    },
  };
}

/** Those of pg_dump, and those it leaves to the surroundings (time zone, bytea form). No JIT: a COPY has nothing to compile. */
function sessionSettings(source: CopySource, serverMajor: number): string {
  const settings = {
    lock_timeout: String(Math.max(0, Math.round(source.lockTimeoutMs))),
    client_encoding: source.encoding,
    datestyle: 'ISO',
    intervalstyle: 'postgres',
    extra_float_digits: '3',
    timezone: 'UTC',
    bytea_output: 'hex',
    synchronize_seqscans: 'off',
    row_security: 'off',
    search_path: '',
    max_parallel_workers_per_gather: '0',
    jit: 'off',
  };
  const statements = Object.entries(settings).map(([name, value]) => `SET ${name} = '${value}';`);
  return `${withoutTimeouts(serverMajor)} ${statements.join(' ')}`;
}

function copyStream(
  connection: Connection,
  feed: SocketFeed,
  statement: string,
  title: string,
  stallTimeoutMs: number,
  signal: AbortSignal,
): CopyStream {
  const reader = new CopyReader(feed.buffers);
  const doing = `copy ${title}`;
  async function* bytes(): AsyncGenerator<Uint8Array> {
    if (signal.aborted) throw cancelled(signal);
    if (connection.lost.aborted) throw cancelled(connection.lost);
    const stream = feed.take(connection, reader);
    stream.write(queryMessage(statement));
    try {
      for (;;) {
        const ready = reader.takeReady();
        if (ready !== undefined) {
          yield ready;
          reader.release();
          feed.resume(reader);
        } else if (reader.finished) {
          break;
        } else {
          await waitForMore(reader, connection, stallTimeoutMs, title, signal);
        }
      }
    } finally {
      // Left early, the rest of the COPY is still on its way: the connection is of no further use.
      if (reader.finished) feed.giveBack(connection);
      else stream.destroy();
    }
    if (reader.error !== undefined) throw copyError(reader.error, doing);
  }
  return {
    bytes: bytes(),
    rows() {
      if (!reader.finished || reader.rows === undefined)
        throw new Error(`The copy of ${title} has not been read to its end`);
      return reader.rows;
    },
  };
}

function copyError(error: Error, doing: string): CellarError {
  const failure = statementError(error, doing);
  if (sqlStateOf(error) !== '55P03') return failure;
  return new CellarError('database-locked', failure.message, {
    hint: 'Another session waits to lock the table exclusively (TRUNCATE, ALTER TABLE, VACUUM FULL, …): let that finish first, and back up again.',
    retryable: true,
    cause: error,
  });
}

/** Resolves when the reader has something, or its socket is closed; throws after a silence of the server. */
function waitForMore(
  reader: CopyReader,
  connection: Connection,
  stallTimeoutMs: number,
  title: string,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const waitingSince = performance.now();
    const done = (error?: unknown) => {
      clearTimeout(timer);
      connection.lost.removeEventListener('abort', onLost);
      reader.onReady = undefined;
      if (error === undefined) resolve();
      else reject(error);
    };
    const onLost = () => done(signal.aborted ? cancelled(signal) : lostWhileCopying(connection, title));
    const check = () => {
      const silentFor = performance.now() - Math.max(waitingSince, reader.lastBytesAt);
      if (silentFor < stallTimeoutMs) {
        timer = setTimeout(check, stallTimeoutMs - silentFor + 1);
        return;
      }
      done(
        new CellarError(
          'stalled',
          `The server sent nothing of ${title} for ${Math.round(stallTimeoutMs / 1000)} seconds.`,
          {
            hint: 'Look for an overloaded server or network; or allow a longer silence.',
            retryable: true,
          },
        ),
      );
    };
    let timer: NodeJS.Timeout | undefined = stallTimeoutMs > 0 ? setTimeout(check, stallTimeoutMs) : undefined;
    reader.onReady = () => done();
    connection.lost.addEventListener('abort', onLost, { once: true });
    if (connection.lost.aborted) onLost();
  });
}

function lostWhileCopying(connection: Connection, title: string): CellarError {
  const reason = cancelled(connection.lost);
  return new CellarError('database-failed', `The connection was cut while ${title} was copied.`, {
    hint: "The server or an administrator ended it, or the network failed: look into the server's log.",
    retryable: true,
    cause: reason,
  });
}

/** Buffers of closed connections of this thread: a giant table is read over many, one after the other. */
const COPY_MEMORY: { readonly read: Buffer; readonly rows: CopyBuffers }[] = [];

/**
 * The way from the socket to whoever reads at the moment: `pg` while it logs in and runs statements, a CopyReader while one copies.
 * A plain socket reads into one large buffer of ours; an encrypted one hands out its own.
 */
class SocketFeed {
  readonly #memory = COPY_MEMORY.pop() ?? { read: Buffer.allocUnsafeSlow(READ_BYTES), rows: copyBuffers() };
  #socket: Socket | undefined;
  #reader: CopyReader | undefined;
  /** Bytes of the last read that the reader had no room for; they stay where they are while reading is paused. */
  #rest: Buffer | undefined;
  #stream: Duplex | undefined;
  #listeners: ((data: Buffer) => void)[] = [];

  /** Of all copies on this connection, one after the other. */
  get buffers(): CopyBuffers {
    return this.#memory.rows;
  }

  makeSocket(): Socket {
    const buffer = this.#memory.read;
    const socket: Socket = new Socket({
      onread: {
        buffer,
        callback: (count: number) => {
          const piece = buffer.subarray(0, count);
          if (this.#reader === undefined) {
            // Its parser keeps what it is given.
            socket.emit('data', Buffer.from(piece));
            return true;
          }
          return this.#push(this.#reader, piece);
        },
      },
    });
    // Once it is closed nobody writes into its memory any more.
    socket.once('close', () => COPY_MEMORY.push(this.#memory));
    this.#socket = socket;
    return socket;
  }

  /** Directs what comes from now on to `reader`; returns where to write. */
  take(connection: Connection, reader: CopyReader): Duplex {
    const stream = connection.client.connection.stream;
    this.#stream = stream;
    this.#reader = reader;
    if (stream !== this.#socket) {
      this.#listeners = stream.listeners('data') as ((data: Buffer) => void)[];
      for (const listener of this.#listeners) stream.off('data', listener);
      stream.on('data', this.#onData);
    }
    return stream;
  }

  /** Directs what comes from now on to `pg` again. */
  giveBack(connection: Connection): void {
    const stream = connection.client.connection.stream;
    this.#reader = undefined;
    if (stream !== this.#socket) {
      stream.off('data', this.#onData);
      for (const listener of this.#listeners) stream.on('data', listener);
    }
    stream.resume();
  }

  /** To be called when the reader has room again. */
  resume(reader: CopyReader): void {
    const rest = this.#rest;
    if (rest === undefined) return;
    this.#rest = undefined;
    if (this.#push(reader, rest)) this.#stream?.resume();
  }

  readonly #onData = (piece: Buffer): void => {
    if (this.#reader !== undefined && !this.#push(this.#reader, piece)) this.#stream?.pause();
  };

  /** False when the reader is full: reading has to pause. */
  #push(reader: CopyReader, piece: Buffer): boolean {
    const taken = reader.push(piece);
    if (taken === piece.length) return true;
    this.#rest = piece.subarray(taken);
    return false;
  }
}
