/**
 * What adapters and decorators share about the bytes of an object: reading a body piece by piece so that an abort is heard even
 * while the body itself hangs, and checking the range of a read. Nothing here knows where bytes are kept.
 */
import { CellarError, cancelled, throwIfAborted } from '../errors.ts';
import type { ObjectBody, ObjectName, ReadOptions } from './storage.ts';

/** True for a body that can be sent again from the start: bytes, not a stream. */
export function isReplayable(body: ObjectBody): body is ReplayableBody {
  return body instanceof Uint8Array || Array.isArray(body);
}

export type ReplayableBody = Uint8Array | readonly Uint8Array[];

export function sizeOfBytes(body: ReplayableBody): number {
  return body instanceof Uint8Array ? body.length : body.reduce((sum, { length }) => sum + length, 0);
}

/**
 * The pieces of a body in order, without the empty ones. A piece is valid until the next one is asked for. Throws the cancellation as
 * soon as the signal is aborted, also when the body does not answer; the body is told to end (`return`), but not waited for then.
 */
export async function* piecesOf(body: ObjectBody, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal);
  if (isReplayable(body)) {
    for (const piece of body instanceof Uint8Array ? [body] : body) {
      throwIfAborted(signal);
      if (piece.length > 0) yield piece;
    }
    return;
  }
  yield* untilAborted(body, signal);
}

/** Passes a stream on, and ends it with the cancellation as soon as the signal is aborted, even while the stream hangs. */
export async function* untilAborted(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal);
  const iterator = source[Symbol.asyncIterator]();
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled(signal));
  });
  aborted.catch(() => {});
  signal.addEventListener('abort', onAbort, { once: true });
  let ended = false;
  try {
    while (true) {
      const next = iterator.next();
      // After an abort nobody waits for this answer any more: its failure must not count as unhandled.
      next.catch(() => {});
      const result = await Promise.race([next, aborted]);
      if (result.done === true) {
        ended = true;
        return;
      }
      throwIfAborted(signal);
      if (result.value.length > 0) yield result.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!ended) {
      const returned = iterator.return?.();
      // A hanging source never answers; one that is well is given the time to close what it holds.
      if (returned !== undefined) {
        if (signal.aborted) returned.catch(() => {});
        else await returned.catch(() => {});
      }
    }
  }
}

/**
 * The span of an object of `size` bytes that a read asks for. Throws `invalid-input` for a range that is none, and `damaged` when the
 * object ends before it: who asks for bytes knows from a manifest or index that they were written.
 */
export function spanOf(
  name: ObjectName,
  size: number,
  range: ReadOptions['range'],
): { readonly start: number; readonly end: number } {
  if (range === undefined) return { start: 0, end: size };
  checkRange(name, range);
  const end = range.offset + range.length;
  if (end > size) throw tooShort(name, size, end);
  return { start: range.offset, end };
}

/** Throws `invalid-input` for offsets and lengths that are negative, broken or not numbers. */
export function checkRange(name: ObjectName, range: ReadOptions['range']): void {
  if (range === undefined) return;
  const { offset, length } = range;
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0) return;
  throw new CellarError('invalid-input', `${length} bytes at ${offset} is no range of object ${name}.`);
}

/** The error for an object that ends before the bytes that must be there. */
export function tooShort(name: ObjectName, size: number, wanted: number): CellarError {
  return new CellarError(
    'damaged',
    `Object ${name} has ${size} bytes, but must have at least ${wanted}: it was cut short.`,
    {
      details: { object: name, size, wanted },
    },
  );
}

/** The error for a name that is taken. */
export function alreadyThere(name: ObjectName): CellarError {
  return new CellarError('conflict', `Object ${name} exists already.`, { details: { object: name } });
}

/** The error for a confirmed absence. */
export function notThere(name: ObjectName): CellarError {
  return new CellarError('not-found', `Object ${name} was not found in the storage.`, { details: { object: name } });
}
