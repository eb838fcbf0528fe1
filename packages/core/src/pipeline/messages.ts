/**
 * What the main thread and a worker thread say to each other while a dump is taken in.
 *
 *   main                                         worker
 *   task ──────────────────────────────────────▶ engine.read(task)
 *                        ◀─ segment-begin        a part begins
 *                        ◀─ chunks               ids and lengths of a batch, in order
 *   verdict ────────────────────────────────────▶ which of them are stored already
 *                        ◀─ frames               the others, compressed, in order
 *                        ◀─ segment-end          the part's result, its bytes all seen
 *                        ◀─ task-end | failed
 *
 * The main thread handles a worker's messages strictly one after the other and a worker keeps few verdicts outstanding:
 * that is the backpressure, from the storage back to the database's socket.
 */
import type { DumpTask, EntryKind, PartResult, TableName } from '../engine/engine.ts';
import { CellarError, type ErrorCode } from '../errors.ts';
import type { SegmentFrame } from '../repository/backup-writer.ts';
import type { ChunkSpec } from '../repository/chunk-spec.ts';

export type ToWorker =
  | { readonly type: 'task'; readonly task: DumpTask; readonly chunks: ChunkSpec }
  | { readonly type: 'verdict'; readonly known: Uint8Array }
  | { readonly type: 'abort'; readonly reason: PlainError };

export type FromWorker =
  | {
      readonly type: 'segment-begin';
      readonly entry: string;
      readonly kind: EntryKind;
      readonly table?: TableName;
      readonly segment: number;
    }
  | { readonly type: 'chunks'; readonly ids: Uint8Array; readonly lengths: Uint32Array; readonly bytes: number }
  | { readonly type: 'frames'; readonly frames: readonly SegmentFrame[] }
  | { readonly type: 'segment-end'; readonly result: PartResult }
  | { readonly type: 'task-end' }
  | { readonly type: 'failed'; readonly error: PlainError };

/** An error as plain data, for the way between threads. */
export interface PlainError {
  readonly code?: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;
  readonly stack?: string;
}

export function toPlainError(error: unknown): PlainError {
  if (error instanceof CellarError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      retryable: error.retryable,
      details: error.details,
      ...(error.stack === undefined ? {} : { stack: error.stack }),
    };
  }
  if (error instanceof Error) {
    return {
      message: error.message,
      retryable: false,
      details: {},
      ...(error.stack === undefined ? {} : { stack: error.stack }),
    };
  }
  return { message: String(error), retryable: false, details: {} };
}

export function fromPlainError(plain: PlainError): Error {
  if (plain.code === undefined) {
    const error = new Error(plain.message);
    if (plain.stack !== undefined) error.stack = plain.stack;
    return error;
  }
  const error = new CellarError(plain.code, plain.message, {
    retryable: plain.retryable,
    details: plain.details,
    ...(plain.hint === undefined ? {} : { hint: plain.hint }),
  });
  if (plain.stack !== undefined) error.stack = plain.stack;
  return error;
}
