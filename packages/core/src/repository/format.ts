/**
 * Names and numbers of the stored format, as docs/repository-format.md specifies them. Object names are made and taken apart here only.
 */
import { CellarError } from '../errors.ts';
import { type ObjectName, parseObjectName } from '../storage/storage.ts';

export const FORMAT_VERSION = 1;

export const CONFIG_NAME = parseObjectName('config');
export const KEYS_PREFIX = 'keys/';
export const PACKS_PREFIX = 'packs/';
export const BACKUPS_PREFIX = 'backups/';
export const HOLDS_PREFIX = 'holds/';
export const CONDEMNED_PREFIX = 'condemned/';

/** Bytes of a chunk id. */
export const ID_BYTES = 16;
/** Raw bytes of the largest frame, and so of the largest chunk and page. */
export const MAX_FRAME_BYTES = 1 << 20;
export const MAX_PACK_BYTES = 256 << 20;
/** Pack sizes are multiples of this, so that they tell little about what is inside. */
export const PACK_PADDING = 16384;
export const MAX_SIGNED_TEXT_BYTES = 65536;
export const MAX_DOCUMENT_BYTES = 64 << 20;
export const MAX_DOCUMENT_RAW_BYTES = 512 << 20;

export type Codec = 0 | 1;
export const RAW: Codec = 0;
export const ZSTD: Codec = 1;

const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const HEX_32 = /^[0-9a-f]{32}$/;

export function isUlid(text: string): boolean {
  return ULID.test(text);
}

export interface BackupName {
  readonly object: ObjectName;
  /** Keyed hash of the database's name. */
  readonly database: string;
  readonly id: string;
}

export function backupName(database: string, id: string): ObjectName {
  return parseObjectName(`${BACKUPS_PREFIX}${database}/${id}`);
}

export function holdName(database: string, id: string): ObjectName {
  return parseObjectName(`${HOLDS_PREFIX}${database}/${id}`);
}

export function condemnedName(id: string): ObjectName {
  return parseObjectName(`${CONDEMNED_PREFIX}${id}`);
}

export function keyName(id: string): ObjectName {
  return parseObjectName(`${KEYS_PREFIX}${id}`);
}

/** Undefined for a name that is not a manifest's (or, with `prefix`, a hold's). */
export function parseBackupName(object: ObjectName, prefix = BACKUPS_PREFIX): BackupName | undefined {
  if (!object.startsWith(prefix)) return undefined;
  const [database = '', id = '', ...rest] = object.slice(prefix.length).split('/');
  return rest.length === 0 && HEX_32.test(database) && ULID.test(id) ? { object, database, id } : undefined;
}

export interface PackName {
  readonly object: ObjectName;
  /** The backup that wrote it. */
  readonly run: string;
  readonly serial: number;
  /** 32 hex digits. */
  readonly packId: string;
}

export function packName(run: string, serial: number, packId: string): ObjectName {
  return parseObjectName(`${PACKS_PREFIX}${packId.slice(0, 2)}/${run}-${serial}-${packId}`);
}

/** Undefined for a name that is not a pack's. */
export function parsePackName(object: ObjectName): PackName | undefined {
  const match = /^packs\/([0-9a-f]{2})\/([^-/]+)-(0|[1-9][0-9]{0,8})-([0-9a-f]{32})$/.exec(object);
  if (match === null) return undefined;
  const [, folder = '', run = '', serial = '', packId = ''] = match;
  return ULID.test(run) && packId.startsWith(folder) ? { object, run, serial: Number(serial), packId } : undefined;
}

/** The id of a tombstone, undefined for another name. */
export function parseCondemnedName(object: ObjectName): string | undefined {
  const id = object.startsWith(CONDEMNED_PREFIX) ? object.slice(CONDEMNED_PREFIX.length) : '';
  return ULID.test(id) ? id : undefined;
}

/** Stored bytes that are not what was written; always names the object. */
export function damaged(object: string, what: string, cause?: unknown): CellarError {
  return new CellarError('damaged', `Object ${object} is damaged: ${what}.`, {
    hint: 'Run "cellar verify" to see which backups this harms; a copy of the object from elsewhere repairs it.',
    details: { object },
    cause,
  });
}

/** A version that this program does not read. */
export function unsupported(object: string, version: unknown): CellarError {
  return new CellarError(
    'unsupported-format',
    `Object ${object} has format version ${String(version)}, this program reads 1.`,
    {
      hint: 'Use a newer version of Cellar.',
      details: { object },
    },
  );
}
