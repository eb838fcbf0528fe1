/** Writes a stream of bytes, whose arrays are ours to keep, to a file, which appears whole or not at all, or to stdout. */
import { createWriteStream, type Stats } from 'node:fs';
import { access, realpath, rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { CellarError } from '@cellar/core';

/** The reader of stdout went away before the end: nobody is left to complain to. */
export class ClosedPipe extends Error {}

/**
 * Replaces a file of that name, or the one that a symbolic link of that name leads to.
 * Throws `storage-failed` or `storage-full` in words about the file, and what the source throws as it is.
 */
export async function writeFileWhole(
  path: string,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  try {
    const found = await statOf(path);
    if (found === undefined || found.isFile()) {
      await writeBeside(found === undefined ? path : await realpath(path), source, signal);
    } else {
      // A device or a pipe, such as /dev/null, is written into: put in its place, a file would take it from everybody else.
      await pipeline(source, createWriteStream(path), { signal });
    }
  } catch (error) {
    throw inWords(error, path);
  }
}

async function writeBeside(path: string, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  const partial = `${path}.cellar-partial`;
  // What a killed run left goes; what somebody else puts there in the meantime is not followed.
  await rm(partial, { force: true });
  try {
    await pipeline(source, createWriteStream(partial, { flags: 'wx', mode: 0o600, flush: true }), { signal });
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Throws ClosedPipe when stdout was closed. stdout itself is left open: the process ends it. */
export async function writeStdout(
  stdout: NodeJS.WriteStream,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  try {
    await pipeline(source, stdout, { signal, end: false });
    // The pipeline ends when stdout has been given everything; what counts is when the reader has taken it.
    await new Promise<void>((resolve, reject) => {
      stdout.write('', (error) => (error ? reject(error) : resolve()));
    });
  } catch (error) {
    throw isSystemError(error) && error.code === 'EPIPE' && error.syscall === 'write' ? new ClosedPipe() : error;
  }
}

export async function fileExists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return false;
    throw inWords(error, path);
  }
}

function inWords(error: unknown, path: string): unknown {
  if (!isSystemError(error) || error.syscall === undefined) return error;
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new CellarError('storage-full', `There is no room left for ${path}.`, {
        hint: 'Free some space or name another place; nothing was left behind.',
        cause: error,
      });
    case 'ENOENT':
      return new CellarError('storage-failed', `The folder of ${path} does not exist.`, { cause: error });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new CellarError('storage-failed', `${path} may not be written.`, {
        hint: 'Name a place that this user may write to.',
        cause: error,
      });
    default:
      return new CellarError('storage-failed', `${path} could not be written: ${error.message}.`, { cause: error });
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && !(error instanceof CellarError);
}
