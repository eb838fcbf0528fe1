/**
 * A storage in a local folder (or a mounted share): one file per object, the object's name is its path below the folder.
 * Files are made with mode 0600 and folders with 0700. Objects are linked into place when they are whole and synced, so a crash
 * leaves at most an unfinished file in `.cellar-tmp`, which no listing shows and which the next writer removes.
 *
 * A name cannot be an object and a folder at once: with an object `a`, `a/b` is a `conflict`.
 * Symbolic links below the folder are not followed; see `local-root.ts`, also for what a missing folder means.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { throwIfAborted } from '../../errors.ts';
import { checkRange, notThere, spanOf, tooShort } from '../body.ts';
import type {
  ObjectBody,
  ObjectName,
  ReadOptions,
  SignalOption,
  Storage,
  StoredObject,
  WriteOptions,
} from '../storage.ts';
import { fileSystemTime, removeStale, syncFolder, writeDurably } from './durable-file.ts';
import { fileError, isAbsence, systemCode } from './file-errors.ts';
import { listFiles } from './list-files.ts';
import { parseLocalPath } from './local-path.ts';
import { followedLink, LocalRoot, UNFINISHED } from './local-root.ts';

/** Bytes read at once. */
const READ_PIECE = 1024 * 1024;

/**
 * Opens the folder that a path or a `file:///…` URL names; creates nothing. Throws `invalid-input` for anything else, and when a
 * file stands there.
 */
export async function openLocalStorage(urlOrPath: string): Promise<Storage> {
  return new LocalStorage(await LocalRoot.open(parseLocalPath(urlOrPath)));
}

class LocalStorage implements Storage {
  readonly url: string;
  readonly capabilities = { exclusiveCreate: true };
  readonly #root: LocalRoot;
  #cleaned: Promise<void> | undefined;

  constructor(root: LocalRoot) {
    this.#root = root;
    this.url = pathToFileURL(root.path).href;
  }

  async put(name: ObjectName, body: ObjectBody, { signal }: WriteOptions): Promise<StoredObject> {
    throwIfAborted(signal);
    const path = this.#root.pathOf(name);
    await this.#root.checkInside(path);
    const unfinished = await this.#unfinished();
    await this.#root.prepareFolder(dirname(path));
    throwIfAborted(signal);
    const { size, modifiedAt } = await writeDurably(name, path, unfinished, body, signal);
    return { name, size, modifiedAt };
  }

  async *get(name: ObjectName, { signal, range }: ReadOptions): AsyncGenerator<Uint8Array, void, undefined> {
    throwIfAborted(signal);
    checkRange(name, range);
    const path = this.#root.pathOf(name);
    await this.#root.checkInside(path);
    const handle = await this.#openObject(name, path);
    try {
      const { start, end } = spanOf(name, await sizeOf(handle, name, path), range);
      let at = start;
      while (at < end) {
        throwIfAborted(signal);
        const piece = Buffer.allocUnsafeSlow(Math.min(READ_PIECE, end - at));
        const filled = await readFully(handle, piece, at, name, path);
        // The file had these bytes a moment ago: somebody is cutting it while it is read.
        if (filled < piece.length) throw tooShort(name, at + filled, end);
        at += filled;
        yield piece;
      }
    } finally {
      await handle.close();
    }
  }

  async *list(prefix: string, { signal }: SignalOption): AsyncGenerator<StoredObject, void, undefined> {
    throwIfAborted(signal);
    if (await this.#root.exists()) yield* listFiles(this.#root.path, prefix, signal);
  }

  async stat(name: ObjectName, { signal }: SignalOption): Promise<StoredObject> {
    throwIfAborted(signal);
    const found = await this.#look(name);
    if (found === undefined) throw await this.#root.absence(name);
    return { name, size: found.size, modifiedAt: found.modifiedAt };
  }

  async delete(name: ObjectName, { signal }: SignalOption): Promise<void> {
    throwIfAborted(signal);
    if ((await this.#look(name)) === undefined) {
      await this.#root.exists();
      return;
    }
    const path = this.#root.pathOf(name);
    try {
      await unlink(path);
      await syncFolder(dirname(path));
    } catch (error) {
      if (!isAbsence(error)) throw fileError(error, `delete object ${name}`, path);
    }
  }

  /**
   * Where nothing can be written this machine's clock must do: nothing there is new, and a full disk must not stand in the way of
   * making room on it.
   */
  async now({ signal }: SignalOption): Promise<Date> {
    throwIfAborted(signal);
    if (!(await this.#root.exists())) return new Date();
    try {
      return await fileSystemTime(await this.#unfinished());
    } catch (error) {
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      if (['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT'].includes(systemCode(cause))) return new Date();
      throw fileError(error, 'read the clock of the file system', this.#root.path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** The folder for unfinished files. The first caller also clears what crashed writers left there. */
  async #unfinished(): Promise<string> {
    const folder = join(this.#root.path, UNFINISHED);
    await this.#root.prepareFolder(folder);
    this.#cleaned ??= removeStale(folder);
    try {
      await this.#cleaned;
    } catch (error) {
      this.#cleaned = undefined;
      throw fileError(error, 'write', folder);
    }
    return folder;
  }

  /** The object's file, or undefined where no regular file stands at its path. */
  async #look(name: ObjectName): Promise<{ readonly size: number; readonly modifiedAt: Date } | undefined> {
    const path = this.#root.pathOf(name);
    await this.#root.checkInside(path);
    try {
      const stats = await lstat(path);
      if (stats.isSymbolicLink()) throw followedLink(path);
      return stats.isFile() ? { size: stats.size, modifiedAt: stats.mtime } : undefined;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw fileError(error, `look at object ${name}`, path);
    }
  }

  async #openObject(name: ObjectName, path: string): Promise<FileHandle> {
    try {
      // NONBLOCK: opening a named pipe that somebody left there must not hang.
      return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (isAbsence(error)) throw await this.#root.absence(name);
      throw fileError(error, `read object ${name}`, path);
    }
  }
}

async function sizeOf(handle: FileHandle, name: ObjectName, path: string): Promise<number> {
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw notThere(name);
    return stats.size;
  } catch (error) {
    throw fileError(error, `read object ${name}`, path);
  }
}

/** Fills `piece` from position `at`; fewer bytes only at the end of the file. */
async function readFully(
  handle: FileHandle,
  piece: Buffer,
  at: number,
  name: ObjectName,
  path: string,
): Promise<number> {
  try {
    let filled = 0;
    while (filled < piece.length) {
      const { bytesRead } = await handle.read(piece, filled, piece.length - filled, at + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  } catch (error) {
    throw fileError(error, `read object ${name}`, path);
  }
}
