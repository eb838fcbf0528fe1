/**
 * The one error class of Cellar. An error says three things in one paragraph: what failed, why, and what to do.
 * The `code` is what programs act on: the command line maps it to an exit code, the server to an HTTP status, each in one table.
 * Expected outcomes (findings of a check, verdicts, reasons of retention) are data, never errors.
 */

export type ErrorCode =
  /** The caller asked for something impossible: a malformed URL, name, option or policy. */
  | 'invalid-input'
  /** A backup, object, table or database that was named does not exist, and this was confirmed. */
  | 'not-found'
  /** Something that must not exist yet does, or a name fits more than one thing. */
  | 'conflict'
  /** Stored bytes are not what was written: flipped, cut, swapped, replayed or missing. */
  | 'damaged'
  /** The stored format is of a version that this program does not know. */
  | 'unsupported-format'
  /** A passphrase or identity does not open the repository or file. */
  | 'wrong-key'
  /** The storage refused or lost the connection, or the disk is full. */
  | 'storage-failed'
  | 'storage-full'
  /** The database could not be reached, or refused the login. */
  | 'database-unreachable'
  | 'database-login'
  /** The database answered with an error, or its connection was cut. */
  | 'database-failed'
  /** The user that Cellar connects as may not do what is needed. */
  | 'database-privilege'
  /** A lock was not granted in time. */
  | 'database-locked'
  /** pg_dump and its kin are missing, too old, or ended with an error. */
  | 'tool-missing'
  | 'tool-failed'
  /** What came out is not what went in: a count or digest differs. Nothing was replaced. */
  | 'mismatch'
  /** No bytes for longer than the stall limit. */
  | 'stalled'
  /** The caller's signal was aborted. */
  | 'cancelled';

export interface ErrorOptions {
  /** What the person can do about it, as a sentence. */
  readonly hint?: string;
  /** True only when the same call may succeed later without anybody changing anything. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
  /** Facts for programs: object names, counts, limits. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export class CellarError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;

  /** @param message what failed and why, as a sentence without secrets. */
  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CellarError';
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
    this.details = options.details ?? {};
  }
}

export function isCellarError(error: unknown, code?: ErrorCode): error is CellarError {
  return error instanceof CellarError && (code === undefined || error.code === code);
}

/** Throws the cancellation of `signal`, if it was aborted, as a CellarError. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw cancelled(signal);
}

/** The error that an aborted signal stands for: its own reason when that is a CellarError, else `cancelled`. */
export function cancelled(signal: AbortSignal): CellarError {
  if (signal.reason instanceof CellarError) return signal.reason;
  return new CellarError('cancelled', 'The work was cancelled.', { cause: signal.reason });
}

/** For the default branch of an exhaustive switch. */
export function assertNever(value: never): never {
  throw new Error(`Unhandled case: ${JSON.stringify(value)}`);
}
