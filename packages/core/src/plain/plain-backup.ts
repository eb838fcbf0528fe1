/**
 * One backup kept as a plain file: what is known of it from its name, its sidecar and the storage, and how its script is read.
 */
import { createHash } from 'node:crypto';
import type { BackupContents, Engine, Entry, ScriptLocator, SourceFacts } from '../engine/engine.ts';
import { partOf } from '../engine/part.ts';
import { CellarError, isCellarError } from '../errors.ts';
import type { Storage, StoredObject } from '../storage/storage.ts';
import { type AgeKeys, ageDecrypt } from './age.ts';
import { decompress } from './decompress.ts';
import type { PlainName } from './file-name.ts';
import type { PlainFacts, Sidecar } from './sidecar.ts';

export interface PlainBackup {
  readonly name: PlainName;
  /** Bytes of the file. */
  readonly sizeBytes: number;
  readonly createdAt: Date;
  /** '' where there is none. */
  readonly description: string;
  /** As the sidecar says it; without one, the beginning of the file's name. */
  readonly databaseName: string;
  /** '' where nothing says it. */
  readonly databaseHost: string;
  /** Only of files that Cellar wrote, when their sidecar is whole. */
  readonly facts: PlainFacts | undefined;
  /** Which part of its database it holds, as `partOf` says it; undefined: all of it, or nothing says so. */
  readonly part: string | undefined;
  /** What a person should know before relying on it, as sentences; empty for a good one. */
  readonly problems: readonly string[];
}

export function describeBackup(name: PlainName, file: StoredObject, sidecar: Sidecar | undefined): PlainBackup {
  const problems = [...(sidecar?.problems ?? [])];
  if (sidecar?.sizeBytes !== undefined && sidecar.sizeBytes !== file.size) {
    problems.push(`The file has ${file.size} bytes, but its sidecar says ${sidecar.sizeBytes}.`);
  }
  return {
    name,
    sizeBytes: file.size,
    createdAt: sidecar?.createdAt ?? name.time,
    description: sidecar?.description ?? '',
    databaseName: sidecar?.databaseName ?? name.prefix,
    databaseHost: sidecar?.databaseHost ?? '',
    facts: sidecar?.facts,
    part: sidecar?.facts === undefined ? undefined : partOf(sidecar.facts.filters),
    problems,
  };
}

/**
 * The backup's script, checked as it is read: decrypted, decompressed, and at its end compared with the digest in the sidecar, if
 * there is one. Throws `damaged` and `wrong-key`; a script that came to its end without a throw is what was written.
 */
export async function* readScript(
  storage: Storage,
  backup: PlainBackup,
  keys: AgeKeys,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { name, facts } = backup;
  const hash = createHash('sha256');
  async function* file(): AsyncGenerator<Uint8Array> {
    for await (const piece of storage.get(name.fileName, { signal })) {
      hash.update(piece);
      yield piece;
    }
  }
  const compressed = name.encrypted ? ageDecrypt(file(), keys, signal) : file();
  yield* decompress(compressed, name.compression, signal);
  if (facts !== undefined && hash.digest('hex') !== facts.sha256) {
    throw new CellarError('damaged', `The file ${name.fileName} is not what was written: its digest differs.`, {
      hint: 'Use another backup, or another copy of this file.',
      details: { object: name.fileName },
    });
  }
}

/**
 * What a restore needs. A file without our sidecar is read once to its end first, so that one that is cut is refused before anything is
 * touched, and its row counts are known. Throws `wrong-key` and `damaged`.
 */
export async function openContents(
  storage: Storage,
  backup: PlainBackup,
  engine: Engine,
  keys: AgeKeys,
  signal: AbortSignal,
): Promise<BackupContents> {
  const { facts } = backup;
  const script = (onSignal: AbortSignal) => readScript(storage, backup, keys, onSignal);
  let bytes = facts?.scriptBytes;
  let locator = facts?.script;
  if (locator === undefined) {
    const counted = countBytes(script(signal));
    locator = await named(backup, engine.inspectScript(counted.bytes, signal));
    bytes = counted.total();
  } else {
    // The first piece is enough to know that the keys fit.
    for await (const _ of script(signal)) break;
  }
  const entry: Entry = {
    name: 'script',
    kind: 'script',
    rows: locator.tables.reduce((sum, table) => sum + table.rows, 0),
    locator: { ...locator, tables: locator.tables.map((table) => ({ ...table })) },
  };
  return {
    source: facts?.source ?? sourceOf(backup, engine, locator),
    entries: [entry],
    part: backup.part,
    sizeOf: () => bytes,
    open: (_entry, onSignal) => script(onSignal),
  };
}

export interface PlainVerdict {
  /** `contents`: the script was read to its end; `bytes`: the file is encrypted and no key was given, so only its digest was compared. */
  readonly depth: 'contents' | 'bytes';
  /** Empty: the backup is whole. Sentences. */
  readonly findings: readonly string[];
  /** What the script holds, where it was read to its end. */
  readonly script: ScriptLocator | undefined;
}

/**
 * Reads the whole file and says what is wrong with it. Throws what keeps it from looking (`wrong-key`, `storage-failed`, `not-found`);
 * damage is a finding.
 */
export async function verifyBackup(
  storage: Storage,
  backup: PlainBackup,
  engine: Engine,
  keys: AgeKeys,
  signal: AbortSignal,
): Promise<PlainVerdict> {
  const { name, facts } = backup;
  const findings = [...backup.problems];
  if (name.encrypted && keys.identities.length === 0 && keys.passphrases.length === 0) {
    if (facts === undefined)
      findings.push('Nothing is known of the encrypted file: no sidecar of ours, and no key was given.');
    else if ((await digest(storage, backup, signal)) !== facts.sha256) findings.push('The digest of the file differs.');
    return { depth: 'bytes', findings, script: undefined };
  }
  try {
    const counted = countBytes(readScript(storage, backup, keys, signal));
    const script = await engine.inspectScript(counted.bytes, signal);
    if (facts !== undefined) findings.push(...differences(facts, script, counted.total()));
    return { depth: 'contents', findings, script };
  } catch (error) {
    if (!isCellarError(error, 'damaged')) throw error;
    return { depth: 'contents', findings: [...findings, error.message], script: undefined };
  }
}

function differences(facts: PlainFacts, script: ScriptLocator, bytes: number): string[] {
  const found: string[] = [];
  const counted = new Map(script.tables.map((table) => [`${table.schema}.${table.name}`, table.rows]));
  for (const { schema, name, rows } of facts.script.tables) {
    const actual = counted.get(`${schema}.${name}`);
    if (actual !== rows)
      found.push(`Table ${schema}.${name} has ${actual ?? 'no'} rows, but its sidecar says ${rows}.`);
  }
  if (script.tables.length !== facts.script.tables.length) {
    found.push(`The script holds ${script.tables.length} tables, but its sidecar says ${facts.script.tables.length}.`);
  }
  if (script.largeObjects !== facts.script.largeObjects) {
    found.push(
      `The script holds ${script.largeObjects} large objects, but its sidecar says ${facts.script.largeObjects}.`,
    );
  }
  if (bytes !== facts.scriptBytes)
    found.push(`The script has ${bytes} bytes, but its sidecar says ${facts.scriptBytes}.`);
  return found;
}

async function digest(storage: Storage, backup: PlainBackup, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of storage.get(backup.name.fileName, { signal })) hash.update(piece);
  return hash.digest('hex');
}

function countBytes(source: AsyncIterable<Uint8Array>): {
  readonly bytes: AsyncIterable<Uint8Array>;
  total(): number;
} {
  let total = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of source) {
      total += piece.length;
      yield piece;
    }
  }
  return { bytes: counted(), total: () => total };
}

/** Names the file in the error of a script that is cut. */
async function named<T>(backup: PlainBackup, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (!isCellarError(error, 'damaged')) throw error;
    throw new CellarError('damaged', `The file ${backup.name.fileName} cannot be restored. ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
      details: { ...error.details, object: backup.name.fileName },
    });
  }
}

/** What a script and an older sidecar tell of the source. pg_dump writes in the database's own encoding if not told otherwise. */
function sourceOf(backup: PlainBackup, engine: Engine, script: ScriptLocator): SourceFacts {
  return {
    engine: engine.id,
    serverVersion: script.serverVersion,
    serverMajor: Number.parseInt(script.serverVersion, 10) || 0,
    database: backup.databaseName,
    host: backup.databaseHost,
    port: 0,
    encoding: script.encoding,
    collate: '',
    ctype: '',
    extensions: [],
    tools: script.toolVersion === '' ? {} : { pg_dump: script.toolVersion },
    schemaDigest: '',
    warnings: [],
    details: null,
  };
}
