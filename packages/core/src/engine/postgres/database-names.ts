/**
 * Names and marks of the databases that a restore makes: the scratch database it loads into, and the one it keeps when it swaps.
 * PostgreSQL cuts names at 63 bytes, silently; these are made to fit, so that none is ever cut.
 */
import { CellarError } from '../../errors.ts';

const MAX_NAME_BYTES = 63;

/** Throws `invalid-input` for a name that the server would cut or refuse. */
export function checkDatabaseName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes >= 1 && bytes <= MAX_NAME_BYTES && !name.includes('\0')) return;
  throw new CellarError('invalid-input', `${JSON.stringify(name)} cannot be the name of a database.`, {
    hint: `PostgreSQL allows 1 to ${MAX_NAME_BYTES} bytes; this name has ${bytes}.`,
  });
}

/** `shop_cellar_01hf…`: the database that is loaded. `id` is unique, of `[0-9a-z]`. */
export function scratchName(database: string, id: string): string {
  return withSuffix(database, `_cellar_${id}`);
}

/** `shop_before_20241108_131200` (UTC); with `attempt` > 1 `…_2`, where two restores met in one second. */
export function previousName(database: string, now: Date, attempt: number): string {
  return withSuffix(database, `_before_${stamp(now)}${attempt > 1 ? `_${attempt}` : ''}`);
}

/** Where `goBack` puts what the restore had brought. */
export function setAsideName(database: string, now: Date): string {
  return withSuffix(database, `_restored_${stamp(now)}`);
}

function stamp(now: Date): string {
  return now.toISOString().replace(/^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d).*$/, '$1$2$3_$4$5$6');
}

function withSuffix(database: string, suffix: string): string {
  const room = MAX_NAME_BYTES - Buffer.byteLength(suffix);
  let kept = database;
  while (Buffer.byteLength(kept) > room) kept = [...kept].slice(0, -1).join('');
  return kept + suffix;
}

/** What the comment of a scratch database says, so that a later restore knows a crashed one's remains. */
export interface ScratchMark {
  /** The database that was to be replaced or made. */
  readonly target: string;
  /** `swapping`: the target may have been closed for connections by the restore. */
  readonly state: 'loading' | 'swapping';
}

const MARK = 'Cellar is restoring into this database. ';

export function markComment(mark: ScratchMark): string {
  return MARK + JSON.stringify({ target: mark.target, state: mark.state });
}

/** The mark in a comment, or undefined for any other comment. */
export function parseMark(comment: string): ScratchMark | undefined {
  if (!comment.startsWith(MARK)) return undefined;
  try {
    const value: unknown = JSON.parse(comment.slice(MARK.length));
    if (typeof value !== 'object' || value === null || !('target' in value) || !('state' in value)) return undefined;
    const { target, state } = value;
    if (typeof target !== 'string' || (state !== 'loading' && state !== 'swapping')) return undefined;
    return { target, state };
  } catch {
    return undefined;
  }
}
