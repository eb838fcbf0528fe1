/**
 * Parses the server's answer to one COPY … TO STDOUT as it arrives in pieces of any size, gathering the payloads of its CopyData
 * messages into large buffers. Knows nothing of sockets. Message formats: PostgreSQL manual, 55.7.
 */
import pg from 'pg';

const BUFFER_BYTES = 512 * 1024;
/** Below this many bytes a loop beats the call of `copy`. */
const LOOP_BYTES = 24;
/** Messages other than rows are short; one that is not is not of this protocol. */
const MAX_CONTROL_BYTES = 1024 * 1024;

const COPY_DATA = 'd'.charCodeAt(0);
const READY_FOR_QUERY = 'Z'.charCodeAt(0);
const COMMAND_COMPLETE = 'C'.charCodeAt(0);
const ERROR_RESPONSE = 'E'.charCodeAt(0);

/** One is filled while the other one is with the consumer. */
export type CopyBuffers = readonly [Buffer, Buffer];

export function copyBuffers(): CopyBuffers {
  return [Buffer.allocUnsafeSlow(BUFFER_BYTES), Buffer.allocUnsafeSlow(BUFFER_BYTES)];
}

export class CopyReader {
  /** Called once when there is something to take, or the answer is complete. */
  onReady: (() => void) | undefined;
  /** The answer is complete, and all of it has been taken. */
  get finished(): boolean {
    return this.#complete && this.#ready === undefined;
  }
  /** The rows that the server says it sent. */
  rows: number | undefined;
  /** The server's complaint, where there was one. */
  error: Error | undefined;
  /** `performance.now()` of the last bytes that came. */
  lastBytesAt = 0;

  readonly #buffers: CopyBuffers;
  #filling = 0;
  #filled = 0;
  #ready: Uint8Array | undefined;
  /** The other buffer is with the consumer. */
  #lent = false;
  #complete = false;
  /** Of the message at hand: its type, bytes of its header still to come, and of its body. */
  #type = 0;
  #bodyLeft = 0;
  readonly #header = Buffer.alloc(5);
  #headerFilled = 0;
  #control: Buffer[] = [];

  constructor(buffers: CopyBuffers = copyBuffers()) {
    this.#buffers = buffers;
  }

  /** Takes as many bytes as there is room for, and returns their number: all, or fewer when full until `release`. */
  push(piece: Buffer): number {
    this.lastBytesAt = performance.now();
    const end = piece.length;
    let position = 0;
    while (position < end) {
      if (this.#bodyLeft === 0) {
        position = this.#takeHeader(piece, position);
        if (this.#headerFilled < 5) break;
        this.#headerFilled = 0;
        this.#type = this.#header[0] ?? 0;
        this.#bodyLeft = this.#header.readUInt32BE(1) - 4;
        if (this.#type !== COPY_DATA && this.#bodyLeft > MAX_CONTROL_BYTES) {
          this.#complain(new Error('the server sent what is no message of its protocol'));
          return end;
        }
        if (this.#bodyLeft === 0 && this.#type !== COPY_DATA) this.#handle(Buffer.alloc(0));
      }
      if (this.#type === COPY_DATA) {
        position = this.#takeRows(piece, position);
        if (this.#filled === BUFFER_BYTES && !this.#swap()) return position;
      } else if (this.#bodyLeft > 0) {
        const part = piece.subarray(position, position + this.#bodyLeft);
        position += part.length;
        this.#bodyLeft -= part.length;
        this.#control.push(Buffer.from(part));
        if (this.#bodyLeft === 0) this.#handle(Buffer.concat(this.#control.splice(0)));
      }
    }
    return position;
  }

  /** Bytes for the consumer, who says `release` when done with them. */
  takeReady(): Uint8Array | undefined {
    const ready = this.#ready;
    this.#ready = undefined;
    if (ready !== undefined) this.#lent = true;
    return ready;
  }

  release(): void {
    this.#lent = false;
    if (this.#filled === BUFFER_BYTES || (this.#complete && this.#filled > 0)) this.#swap();
  }

  #takeHeader(piece: Buffer, start: number): number {
    let position = start;
    while (this.#headerFilled < 5 && position < piece.length)
      this.#header[this.#headerFilled++] = piece[position++] ?? 0;
    return position;
  }

  /** The rest of the row at hand, and all further rows that lie whole in this piece, while there is room. Where the time goes. */
  #takeRows(piece: Buffer, start: number): number {
    const out = this.#buffers[this.#filling === 0 ? 0 : 1];
    const end = piece.length;
    let position = start;
    let filled = this.#filled;
    let bodyLeft = this.#bodyLeft;
    for (;;) {
      const count = Math.min(bodyLeft, end - position, BUFFER_BYTES - filled);
      if (count < LOOP_BYTES) {
        for (let index = 0; index < count; index++) out[filled + index] = piece[position + index] ?? 0;
      } else {
        piece.copy(out, filled, position, position + count);
      }
      filled += count;
      position += count;
      bodyLeft -= count;
      if (bodyLeft > 0 || end - position < 5 || piece[position] !== COPY_DATA) break;
      bodyLeft =
        (((piece[position + 1] ?? 0) << 24) |
          ((piece[position + 2] ?? 0) << 16) |
          ((piece[position + 3] ?? 0) << 8) |
          (piece[position + 4] ?? 0)) -
        4;
      position += 5;
    }
    this.#filled = filled;
    this.#bodyLeft = bodyLeft;
    return position;
  }

  /** Makes what is gathered ready and goes on in the other buffer; false when that one is not free. */
  #swap(): boolean {
    if (this.#lent || this.#ready !== undefined) return false;
    this.#ready = this.#buffers[this.#filling === 0 ? 0 : 1].subarray(0, this.#filled);
    this.#filling = 1 - this.#filling;
    this.#filled = 0;
    this.#wake();
    return true;
  }

  #handle(body: Buffer): void {
    switch (this.#type) {
      case COMMAND_COMPLETE: {
        const tag = /^COPY (\d+)\0$/.exec(body.toString('latin1'));
        if (tag !== null) this.rows = Number(tag[1]);
        return;
      }
      case ERROR_RESPONSE:
        this.error ??= parseError(body);
        // After a fatal one no more will come.
        if (/^(FATAL|PANIC)$/.test(severityOf(this.error))) this.#complete = true;
        break;
      case READY_FOR_QUERY:
        if (this.rows === undefined) this.error ??= new Error('the server did not say that the COPY was complete');
        this.#complete = true;
        break;
      default:
        // CopyOutResponse, CopyDone, notices and changed parameters.
        return;
    }
    if (!this.#complete) return;
    if (this.#filled > 0) this.#swap();
    this.#wake();
  }

  #complain(error: Error): void {
    this.error ??= error;
    this.#complete = true;
    this.#wake();
  }

  #wake(): void {
    this.onReady?.();
  }
}

/** The simple query message, type `Q`. */
export function queryMessage(statement: string): Buffer {
  const text = Buffer.from(`${statement}\0`, 'utf8');
  const message = Buffer.allocUnsafe(5 + text.length);
  message[0] = 'Q'.charCodeAt(0);
  message.writeUInt32BE(4 + text.length, 1);
  text.copy(message, 5);
  return message;
}

/** As an error of `pg`, so that all complaints of a server are of one kind. Fields: manual, 55.8. */
function parseError(body: Buffer): Error {
  const fields = new Map<string, string>();
  for (const field of body.toString('utf8').split('\0'))
    if (field !== '') fields.set(field.slice(0, 1), field.slice(1));
  const error = new pg.DatabaseError(fields.get('M') ?? 'the server complained without words', body.length, 'error');
  error.severity = fields.get('V') ?? fields.get('S') ?? 'ERROR';
  error.code = fields.get('C') ?? 'XX000';
  const detail = fields.get('D');
  if (detail !== undefined) error.detail = detail;
  return error;
}

function severityOf(error: Error): string {
  return error instanceof pg.DatabaseError ? (error.severity ?? '') : '';
}
