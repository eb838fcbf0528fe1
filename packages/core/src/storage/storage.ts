/**
 * The storage port: dumb bytes under names. Adapters (local, memory, …) implement it, decorators (retry, limit, …) wrap it,
 * and `testing/storage-conformance.ts` is what every one of them passes. Correctness of the repository rests on nothing beyond
 * what is written here; exclusive creation and listing freshness differ between services and are not promised.
 */
import { CellarError } from '../errors.ts';

declare const objectName: unique symbol;
/** A checked name: 1–1024 bytes, segments joined by `/`, none of them empty, `.` or `..`, no control characters or backslashes. */
export type ObjectName = string & { readonly [objectName]: true };

export interface StoredObject {
  readonly name: ObjectName;
  /** Bytes. */
  readonly size: number;
  /** When the object was written, by the storage's own clock. */
  readonly modifiedAt: Date;
}

export interface ReadOptions {
  readonly signal: AbortSignal;
  /** Bytes to read. A range that reaches past the end of the object is an error (`damaged`), never a shorter answer. */
  readonly range?: { readonly offset: number; readonly length: number };
}

export interface WriteOptions {
  readonly signal: AbortSignal;
}

export interface SignalOption {
  readonly signal: AbortSignal;
}

/**
 * What a stored object is made from. Bytes can be sent again on a retry; a stream cannot, so `retry` leaves it alone. A piece of a
 * stream is not looked at any more once the next one is asked for.
 */
export type ObjectBody = Uint8Array | readonly Uint8Array[] | AsyncIterable<Uint8Array>;

export interface StorageCapabilities {
  /** `put` of a name that exists fails with `conflict`. Where false it may replace; names are random or content-bound, so nothing rests on it. */
  readonly exclusiveCreate: boolean;
}

export interface Storage extends AsyncDisposable {
  /** Where this is, for people: a URL without secrets. */
  readonly url: string;
  readonly capabilities: StorageCapabilities;

  /**
   * Writes a whole object. It becomes visible at once and durable, or not at all: an abort, an error of the body or a crash leaves
   * nothing that is listed. Fails with `conflict` when the name exists and the storage can tell. When it
   * has settled, the body is neither read nor kept: its memory is the caller's again. No name may continue another one
   * after a `/` (`a` and `a/b`): some storages keep both, in others they conflict.
   */
  put(name: ObjectName, body: ObjectBody, options: WriteOptions): Promise<StoredObject>;

  /**
   * Streams the object's bytes; the arrays are the caller's to keep. `not-found` only for a confirmed absence; a stream that ends
   * early is an error.
   */
  get(name: ObjectName, options: ReadOptions): AsyncIterable<Uint8Array>;

  /** All objects whose names start with `prefix` (`''` for all), in no promised order; foreign names that are not valid are skipped. */
  list(prefix: string, options: SignalOption): AsyncIterable<StoredObject>;

  /** `not-found` only for a confirmed absence. */
  stat(name: ObjectName, options: SignalOption): Promise<StoredObject>;

  /** Removes an object; one that is not there is no error, one that may not be removed is. */
  delete(name: ObjectName, options: SignalOption): Promise<void>;

  /** The storage's own clock, by which `modifiedAt` is set: garbage collection measures ages with it. */
  now(options: SignalOption): Promise<Date>;
}

/** The one place that makes an ObjectName. Throws `invalid-input`. */
export function parseObjectName(text: string): ObjectName {
  if (!isObjectName(text)) {
    throw new CellarError('invalid-input', `${JSON.stringify(text)} is not a name that a storage can hold.`, {
      hint: 'Names are segments joined by "/", without "." or ".." segments, backslashes or control characters.',
    });
  }
  return text;
}

export function isObjectName(text: string): text is ObjectName {
  const bytes = Buffer.byteLength(text);
  if (bytes === 0 || bytes > 1024) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f\\]/.test(text)) return false;
  return text
    .split('/')
    .every((segment) => segment !== '' && segment !== '.' && segment !== '..' && Buffer.byteLength(segment) <= 255);
}

/** Collects an object known to be small; `limit` bytes guard against a swapped or grown one. */
export async function readSmall(
  storage: Storage,
  name: ObjectName,
  limit: number,
  options: SignalOption,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of storage.get(name, options)) {
    size += part.length;
    if (size > limit) {
      throw new CellarError('damaged', `Object ${name} is larger than the ${limit} bytes it may have.`, {
        details: { object: name },
      });
    }
    parts.push(part);
  }
  return Buffer.concat(parts, size);
}
