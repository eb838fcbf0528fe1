/**
 * Writing a file so that it is there whole or not at all, whatever happens: written under another name, synced, linked to its own
 * name without replacing anything, and the folder synced. link(2) fails when the name exists, which rename(2) does not.
 * (A file system without hard links, such as exFAT, gets rename after a look: there two writers of one name may replace each other.)
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../errors.ts';
import { alreadyThere, piecesOf } from '../body.ts';
import type { ObjectBody, ObjectName } from '../storage.ts';
import { fileError, isAbsence, systemCode } from './file-errors.ts';
import { isDead, ownMark } from './writer-mark.ts';

/** An unfinished file that nobody has written to for this long was left behind by a crash, wherever its writer ran. */
const STALE_MS = 24 * 60 * 60 * 1000;
/** Smaller pieces are gathered up to this size before they are written, bytes. */
const GATHER = 256 * 1024;

export interface WrittenFile {
  readonly size: number;
  readonly modifiedAt: Date;
}

/**
 * Writes `body` to `path`, with `unfinished` (an existing folder on the same file system) as the place to write it.
 * Throws `conflict` when the path exists, `storage-full` when the disk is. Whatever is thrown, nothing is left in either place.
 */
export async function writeDurably(
  name: ObjectName,
  path: string,
  unfinished: string,
  body: ObjectBody,
  signal: AbortSignal,
): Promise<WrittenFile> {
  const temporary = await temporaryPath(unfinished);
  const doing = `write object ${name}`;
  const handle = await open(temporary, 'wx', 0o600).catch((error: unknown) => {
    throw fileError(error, doing, temporary);
  });
  let published = false;
  try {
    let stats: Awaited<ReturnType<FileHandle['stat']>>;
    try {
      await writePieces(handle, body, signal, (error) => fileError(error, doing, path));
      try {
        await handle.sync();
        stats = await handle.stat();
      } catch (error) {
        throw fileError(error, doing, path);
      }
    } finally {
      await handle.close();
    }
    throwIfAborted(signal);
    try {
      await publish(name, temporary, path);
      published = true;
      await syncFolder(dirname(path));
    } catch (error) {
      throw fileError(error, doing, path);
    }
    return { size: stats.size, modifiedAt: stats.mtime };
  } catch (error) {
    // A name that could not be made durable must not stay visible: it might be gone after the next power cut.
    if (published) await unlink(path).catch(() => {});
    throw error;
  } finally {
    // After a rename there is none; otherwise what cannot be removed now is removed as stale later.
    await unlink(temporary).catch(() => {});
  }
}

/** Errors of the body pass unchanged; errors of the file become what `fail` makes of them. */
async function writePieces(
  handle: FileHandle,
  body: ObjectBody,
  signal: AbortSignal,
  fail: (error: unknown) => Error,
): Promise<void> {
  const gathered = Buffer.allocUnsafe(GATHER);
  let filled = 0;
  const write = async (bytes: Uint8Array): Promise<void> => {
    try {
      let at = 0;
      while (at < bytes.length) at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
    } catch (error) {
      throw fail(error);
    }
  };
  for await (const piece of piecesOf(body, signal)) {
    if (filled > 0 && filled + piece.length > GATHER) {
      await write(gathered.subarray(0, filled));
      filled = 0;
    }
    if (piece.length >= GATHER) {
      await write(piece);
    } else {
      gathered.set(piece, filled);
      filled += piece.length;
    }
  }
  if (filled > 0) await write(gathered.subarray(0, filled));
}

/** Gives the finished file its name, without replacing anything. @param makeLink link(2); tests stand in for file systems without it. */
export async function publish(
  name: ObjectName,
  temporary: string,
  path: string,
  makeLink: (from: string, to: string) => Promise<void> = link,
): Promise<void> {
  try {
    await makeLink(temporary, path);
    return;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') {
      // Over NFS the first answer may be lost and the repeated request fails: then the link is there, and it is ours.
      if ((await lstat(temporary)).nlink === 2) return;
      throw alreadyThere(name);
    }
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
  }
  const exists = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if (isAbsence(error)) return false;
      throw error;
    },
  );
  if (exists) throw alreadyThere(name);
  await rename(temporary, path);
}

/** Makes the names in a folder durable. File systems that cannot sync a folder (some network ones) answer EINVAL or ENOTSUP. */
export async function syncFolder(folder: string): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // A folder that may be written but not read cannot be opened to be synced; the file system syncs it in its own time.
    if (systemCode(error) === 'EACCES') return;
    throw fileError(error, 'sync the folder', folder);
  }
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemCode(error))) {
      throw fileError(error, 'sync the folder', folder);
    }
  } finally {
    await handle.close();
  }
}

/** Removes what crashed writers left behind: known to be dead, or silent for long by the file system's own clock. */
export async function removeStale(unfinished: string): Promise<void> {
  const now = (await fileSystemTime(unfinished)).getTime();
  for (const file of await readdir(unfinished)) {
    const path = join(unfinished, file);
    try {
      const mark = file.includes('_') ? file.slice(0, file.indexOf('_')) : '';
      if (now - (await lstat(path)).mtimeMs > STALE_MS || (await isDead(mark))) await unlink(path);
    } catch (error) {
      // Another writer may have finished or cleaned it in the meantime; and what may not be removed does no harm to a backup.
      if (!isAbsence(error) && !['EACCES', 'EPERM', 'EISDIR'].includes(systemCode(error))) throw error;
    }
  }
}

/** The clock that sets the times of files in `folder`: on a network share that of its server. */
export async function fileSystemTime(folder: string): Promise<Date> {
  const path = await temporaryPath(folder);
  const handle = await open(path, 'wx', 0o600);
  try {
    return (await handle.stat()).mtime;
  } finally {
    await handle.close();
    await unlink(path);
  }
}

async function temporaryPath(folder: string): Promise<string> {
  const mark = await ownMark();
  return join(folder, mark === undefined ? randomUUID() : `${mark}_${randomUUID()}`);
}
