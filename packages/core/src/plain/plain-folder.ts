/**
 * Plain files on a storage: one folder of them, with their sidecars. The file is the backup, and it alone decides: it becomes visible at
 * once and only when the dump has ended well, so a file of ours that is listed is whole. The sidecar follows it; after a crash in
 * between, the file is listed without one, and what it holds is read from itself.
 *
 *   reserve the second ─▶ file (whole, checked) ─▶ sidecar ─▶ free the second          delete: file ─▶ sidecar
 */
import { createHash } from 'node:crypto';
import type {
  BackupContents,
  Dump,
  DumpFilters,
  DumpPart,
  Engine,
  PartResult,
  ScriptLocator,
} from '../engine/engine.ts';
import { CellarError, isCellarError, throwIfAborted } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import { type ObjectName, readSmall, type Storage, type StoredObject } from '../storage/storage.ts';
import { type AgeEncryption, type AgeKeys, ageEncrypt } from './age.ts';
import { compress } from './compress.ts';
import type { Compression } from './compression.ts';
import { fileOfSidecar, type PlainName, parsePlainName, prefixFor, sidecarName } from './file-name.ts';
import { describeBackup, openContents, type PlainBackup, type PlainVerdict, verifyBackup } from './plain-backup.ts';
import { reserveName } from './reservation.ts';
import { type PlainEncryption, type PlainFacts, readSidecar, type Sidecar, writeSidecar } from './sidecar.ts';

/** A sidecar of 100,000 tables is smaller. */
const LONGEST_SIDECAR = 32 * 1024 * 1024;
const SIDECARS_AT_ONCE = 8;

export interface PlainWrite {
  readonly engine: Engine;
  /** Opened by `engine.openScriptDump`. */
  readonly dump: Dump;
  /** Of the file's name: `prefixFor(database)` or `givenPrefix(text)`. */
  readonly prefix: string;
  readonly description: string;
  readonly compression: Compression;
  /** Undefined: not encrypted. */
  readonly encryption: AgeEncryption | undefined;
  readonly filters: DumpFilters;
  /** The time of the backup. */
  readonly now: Date;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

export interface PlainListing {
  /** Newest first. */
  readonly backups: readonly PlainBackup[];
  /** Sidecars whose file is gone: a deletion was interrupted, or somebody removed the file. */
  readonly orphanedSidecars: readonly ObjectName[];
}

export class PlainFolder {
  readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  /** Files of other names are none of ours and left alone. */
  async list(signal: AbortSignal): Promise<PlainListing> {
    const files: { readonly name: PlainName; readonly file: StoredObject }[] = [];
    const sidecars = new Map<ObjectName, ObjectName>();
    for await (const file of this.storage.list('', { signal })) {
      const name = parsePlainName(file.name);
      if (name !== undefined) files.push({ name, file });
      const owner = fileOfSidecar(file.name);
      if (owner !== undefined) sidecars.set(file.name, owner.fileName);
    }
    files.sort((a, b) => newestFirst(a.name, b.name));
    const backups: PlainBackup[] = [];
    for (let at = 0; at < files.length; at += SIDECARS_AT_ONCE) {
      const some = files.slice(at, at + SIDECARS_AT_ONCE);
      const described = some.map(async ({ name, file }) => {
        const has = sidecars.has(sidecarName(name.fileName));
        return describeBackup(name, file, has ? await this.#sidecar(name, signal) : undefined);
      });
      backups.push(...(await Promise.all(described)));
    }
    const present = new Set(files.map(({ name }) => name.fileName));
    const orphanedSidecars = [...sidecars].filter(([, file]) => !present.has(file)).map(([sidecar]) => sidecar);
    return { backups, orphanedSidecars };
  }

  /**
   * The backup of that file name, or of a start that only one has; `latest`, or `NAME@latest` for the newest of one database or prefix.
   * Throws `not-found`, and `conflict` when several fit.
   */
  async find(reference: string, signal: AbortSignal): Promise<PlainBackup> {
    const { backups } = await this.list(signal);
    const [, of] = /^(.+)@latest$/s.exec(reference) ?? [];
    if (reference === 'latest' || of !== undefined) {
      const latest = backups.find(({ databaseName, name }) => {
        return of === undefined || databaseName === of || name.prefix === of || name.prefix === prefixFor(of);
      });
      if (latest !== undefined) return latest;
      throw notFound(of === undefined ? 'A plain backup' : `A plain backup of ${of}`, this.storage.url);
    }
    const exact = backups.find(({ name }) => name.fileName === reference);
    if (exact !== undefined) return exact;
    const fitting = reference === '' ? [] : backups.filter(({ name }) => name.fileName.startsWith(reference));
    const [only] = fitting;
    if (only === undefined) throw notFound(`The backup ${JSON.stringify(reference)}`, this.storage.url);
    if (fitting.length === 1) return only;
    throw new CellarError('conflict', `${fitting.length} backups start with ${JSON.stringify(reference)}.`, {
      hint: `Give more of the name: ${fitting
        .slice(0, 3)
        .map(({ name }) => name.fileName)
        .join(', ')}${fitting.length > 3 ? ', …' : ''}.`,
    });
  }

  /**
   * Takes the dump into a new file. Nothing is listed unless all went well; an abort or error leaves nothing. When only the sidecar could
   * not be written, the backup is good and returned with that as a problem.
   */
  async write(request: PlainWrite): Promise<PlainBackup> {
    const { dump, prefix, compression, encryption, now } = request;
    const signal = AbortSignal.any([request.signal, dump.lost]);
    await using reserved = await reserveName(this.storage, { prefix, now, compression, encryption }, signal);
    const { name } = reserved;
    const script = readDump(request, signal);
    const compressed = compress(script.bytes, compression, signal);
    const content = encryption === undefined ? compressed : ageEncrypt(compressed, encryption, signal);
    const hash = createHash('sha256');
    const ended: { finished?: Awaited<ReturnType<Dump['finish']>> } = {};
    async function* body(): AsyncGenerator<Uint8Array> {
      for await (const piece of content) {
        hash.update(piece);
        yield piece;
      }
      // The last word on whether the dump is whole; a throw here keeps the file from ever being there.
      ended.finished = await dump.finish(script.results, signal);
      throwIfAborted(signal);
    }
    const file = await this.storage.put(name.fileName, body(), { signal });
    const { finished } = ended;
    if (finished === undefined) throw new Error('the storage took the file without reading it to its end');
    const facts: PlainFacts = {
      sha256: hash.digest('hex'),
      scriptBytes: script.results.reduce((sum, { bytes }) => sum + bytes, 0),
      compression,
      encryption: publicPart(encryption),
      source: encryption === undefined ? finished.source : request.engine.publicFacts(finished.source),
      script: locatorOf(finished.entries[0]?.locator),
      filters: request.filters,
    };
    return await this.#writeSidecar(request, name, file, facts);
  }

  /** Removes the file, then its sidecar: a deletion that is interrupted leaves no backup that lost its facts. */
  async delete(backup: PlainBackup, signal: AbortSignal): Promise<void> {
    await this.storage.delete(backup.name.fileName, { signal });
    await this.storage.delete(sidecarName(backup.name.fileName), { signal });
  }

  /** Removes a sidecar that `list` reported as orphaned. */
  async deleteOrphan(sidecar: ObjectName, signal: AbortSignal): Promise<void> {
    const file = fileOfSidecar(sidecar);
    if (file === undefined) throw new CellarError('invalid-input', `${sidecar} is not the sidecar of a plain file.`);
    if (await this.#exists(file.fileName, signal)) return;
    await this.storage.delete(sidecar, { signal });
  }

  /** See `verifyBackup`. */
  async verify(backup: PlainBackup, engine: Engine, keys: AgeKeys, signal: AbortSignal): Promise<PlainVerdict> {
    return await verifyBackup(this.storage, backup, engine, keys, signal);
  }

  /** See `openContents`. */
  async contents(backup: PlainBackup, engine: Engine, keys: AgeKeys, signal: AbortSignal): Promise<BackupContents> {
    return await openContents(this.storage, backup, engine, keys, signal);
  }

  async #writeSidecar(
    request: PlainWrite,
    name: PlainName,
    file: StoredObject,
    facts: PlainFacts,
  ): Promise<PlainBackup> {
    const text = writeSidecar(
      {
        fileName: name.fileName,
        timestamp: name.timestamp,
        createdAt: request.now,
        description: request.description,
        sizeBytes: file.size,
      },
      facts,
    );
    const backup = describeBackup(name, file, readSidecar(text, name.fileName));
    try {
      // The file is committed; an abort must not take its facts from it.
      const signal = AbortSignal.timeout(60_000);
      await this.storage.put(sidecarName(name.fileName), Buffer.from(text), { signal });
      return backup;
    } catch (error) {
      // A write whose answer was lost, and which was sent again.
      if (isCellarError(error, 'conflict')) return backup;
      const why = error instanceof Error ? error.message : String(error);
      return { ...backup, problems: [...backup.problems, `The sidecar could not be written: ${why}`] };
    }
  }

  async #sidecar(name: PlainName, signal: AbortSignal): Promise<Sidecar | undefined> {
    try {
      const text = await readSmall(this.storage, sidecarName(name.fileName), LONGEST_SIDECAR, { signal });
      return readSidecar(text.toString('utf8'), name.fileName);
    } catch (error) {
      throwIfAborted(signal);
      // It went away between the listing and now.
      if (isCellarError(error, 'not-found')) return undefined;
      const why = error instanceof Error ? error.message : String(error);
      return { ...readSidecar('{}', name.fileName), problems: [`The sidecar could not be read: ${why}`] };
    }
  }

  async #exists(name: ObjectName, signal: AbortSignal): Promise<boolean> {
    try {
      await this.storage.stat(name, { signal });
      return true;
    } catch (error) {
      if (isCellarError(error, 'not-found')) return false;
      throw error;
    }
  }
}

/** The dump's only part, with what is left of it when it has been read. */
function readDump(
  request: PlainWrite,
  signal: AbortSignal,
): { readonly bytes: AsyncIterable<Uint8Array>; readonly results: PartResult[] } {
  const { dump, engine, onProgress } = request;
  const results: PartResult[] = [];
  async function* bytesOf(part: DumpPart, totalBytes: number): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    for await (const piece of part.bytes) {
      bytes += piece.length;
      onProgress({ phase: 'dump', bytes, totalBytes });
      yield piece;
    }
    results.push(part.result());
  }
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (const task of dump.tasks) {
      for await (const part of engine.read(task, signal)) yield* bytesOf(part, task.estimatedBytes);
    }
  }
  return { bytes: bytes(), results };
}

function locatorOf(locator: unknown): ScriptLocator {
  // The engine's own promise for a dump opened by openScriptDump; structurally it is plain JSON.
  return locator as ScriptLocator;
}

function publicPart(encryption: AgeEncryption | undefined): PlainEncryption {
  if (encryption === undefined) return { kind: 'none' };
  if (encryption.kind === 'passphrase') return { kind: 'age-passphrase' };
  return { kind: 'age-recipients', recipients: encryption.recipients };
}

function newestFirst(a: PlainName, b: PlainName): number {
  return b.time.getTime() - a.time.getTime() || (a.fileName < b.fileName ? -1 : 1);
}

function notFound(what: string, where: string): CellarError {
  return new CellarError('not-found', `${what} was not found in ${where}.`, {
    hint: 'cellar list shows what is there.',
  });
}
