/**
 * Names of plain files: `<prefix>_backup_<YYYYMMDD>_<HHMMSS>.sql.gz`, or `.sql.zst`, either with `.age` behind it when encrypted. The
 * time is UTC. Names are taken apart here and made here; nothing else joins or splits them.
 */
import { createHash } from 'node:crypto';
import { CellarError } from '../errors.ts';
import { type ObjectName, parseObjectName } from '../storage/storage.ts';
import type { Compression } from './compression.ts';

export interface PlainName {
  readonly fileName: ObjectName;
  readonly prefix: string;
  /** `20241108_120000`, UTC. */
  readonly timestamp: string;
  readonly time: Date;
  readonly compression: Compression;
  readonly encrypted: boolean;
}

const EXTENSIONS: Readonly<Record<Compression, string>> = { gzip: '.sql.gz', zstd: '.sql.zst' };
const FILE = /^(.+)_backup_(\d{8}_\d{6})\.sql\.(gz|zst)(\.age)?$/s;
const STEM = /^.+_backup_\d{8}_\d{6}$/s;
const LONGEST_PREFIX = 120;

/** Undefined for a name that is not a plain backup's: another shape, a folder, or no such moment. */
export function parsePlainName(fileName: ObjectName): PlainName | undefined {
  if (fileName.includes('/')) return undefined;
  const [, prefix, timestamp, extension, age] = FILE.exec(fileName) ?? [];
  if (prefix === undefined || timestamp === undefined) return undefined;
  const time = parseTimestamp(timestamp);
  if (time === undefined) return undefined;
  const compression = extension === 'gz' ? 'gzip' : 'zstd';
  return { fileName, prefix, timestamp, time, compression, encrypted: age !== undefined };
}

export function makePlainName(prefix: string, time: Date, compression: Compression, encrypted: boolean): PlainName {
  const timestamp = formatTimestamp(time);
  const stem = `${prefix}_backup_${timestamp}`;
  const fileName = parseObjectName(`${stem}${EXTENSIONS[compression]}${encrypted ? '.age' : ''}`);
  return { fileName, prefix, timestamp, time: wholeSecond(time), compression, encrypted };
}

/**
 * The name of the file's facts: `.gz` is replaced by `.json`, as the older application does it. To any other file's name `.json` is
 * added, so that no two files share their facts.
 */
export function sidecarName(fileName: ObjectName): ObjectName {
  const stem = fileName.endsWith('.gz') ? fileName.slice(0, -'.gz'.length) : fileName;
  return parseObjectName(`${stem}.json`);
}

/** The plain file that a sidecar belongs to; undefined for a name that is not a sidecar's. */
export function fileOfSidecar(name: ObjectName): PlainName | undefined {
  if (!name.endsWith('.json')) return undefined;
  const stem = name.slice(0, -'.json'.length);
  return parsePlainName(parseObjectName(stem.endsWith('.sql') ? `${stem}.gz` : stem));
}

/** What all files of one prefix and second share: their names' beginning, by which one writer reserves it. */
export function stemOf(name: Pick<PlainName, 'prefix' | 'timestamp'>): string {
  return `${name.prefix}_backup_${name.timestamp}`;
}

/** The mark that a file of this stem is being written. */
export function reservationName(stem: string): ObjectName {
  return parseObjectName(`${stem}.writing`);
}

/** The stem that a reservation holds; undefined for another name. */
export function stemOfReservation(name: ObjectName): string | undefined {
  const stem = name.endsWith('.writing') ? name.slice(0, -'.writing'.length) : '';
  return STEM.test(stem) ? stem : undefined;
}

/**
 * How the names of a database's files begin: its name without a trailing `_db`; what a shell would stumble over becomes `_`. Two names
 * that would become the same, other than by `_db`, are kept apart by some digits of a hash.
 */
export function prefixFor(database: string): string {
  return safePrefix(database.length > 3 && database.endsWith('_db') ? database.slice(0, -3) : database);
}

/** A prefix that a person chose, made safe in the same way. Throws `invalid-input` when it is empty. */
export function givenPrefix(prefix: string): string {
  if (prefix.trim() === '') {
    throw new CellarError('invalid-input', 'The prefix for the names of plain files is empty.', {
      hint: 'Give some letters, or leave it out: the name of the database is used then.',
    });
  }
  return safePrefix(prefix);
}

function safePrefix(text: string): string {
  const safe = text
    .normalize('NFC')
    .replaceAll(/[^\p{L}\p{M}\p{N}_.-]+/gu, '_')
    .replace(/^[.-]+/, '_');
  const short = cutBytes(safe, LONGEST_PREFIX);
  if (short === text) return short;
  return `${short}-${createHash('sha256').update(text).digest('hex').slice(0, 6)}`;
}

function cutBytes(text: string, limit: number): string {
  let kept = '';
  for (const character of text) {
    if (Buffer.byteLength(kept) + Buffer.byteLength(character) > limit) break;
    kept += character;
  }
  return kept;
}

/** `20241108_120000` in UTC. */
export function formatTimestamp(time: Date): string {
  const [date, clock] = time.toISOString().split('T');
  return `${date?.replaceAll('-', '')}_${clock?.slice(0, 8).replaceAll(':', '')}`;
}

function parseTimestamp(text: string): Date | undefined {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)$/.exec(text) ?? [];
  const time = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // A date like the 31st of February is taken for another one by some parsers.
  return Number.isNaN(time.getTime()) || formatTimestamp(time) !== text ? undefined : time;
}

function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}
