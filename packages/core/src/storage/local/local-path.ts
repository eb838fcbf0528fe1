/**
 * From what a person writes to the folder it means: `./backups`, `/srv/backups`, `file:///srv/old%20backups`.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CellarError } from '../../errors.ts';

const SCHEME = /^([a-z][a-z0-9+.-]*):\/\//i;

/** The absolute path of a folder given as a path or a file URL. Throws `invalid-input`. */
export function parseLocalPath(urlOrPath: string): string {
  const scheme = SCHEME.exec(urlOrPath)?.[1]?.toLowerCase();
  if (scheme === undefined) {
    if (urlOrPath === '' || urlOrPath.includes('\0'))
      throw noFolder('A folder cannot have an empty path or a zero byte in it.');
    return resolve(urlOrPath);
  }
  if (scheme !== 'file') throw noFolder(`A ${scheme}:// URL is no local folder.`);
  let path: string;
  try {
    const url = new URL(urlOrPath);
    // Both would be cut off silently, and another folder than the one that was meant would be used.
    if (url.search !== '' || url.hash !== '' || /[?#]/.test(urlOrPath))
      throw noFolder('A file URL cannot hold a bare "?" or "#".');
    path = fileURLToPath(url);
  } catch (error) {
    if (error instanceof CellarError) throw error;
    const why = error instanceof Error ? ` (${error.message})` : '';
    throw noFolder(`That file URL names no local folder${why}.`, error);
  }
  if (path.includes('\0')) throw noFolder('A folder cannot have a zero byte in its path.');
  return resolve(path);
}

function noFolder(message: string, cause?: unknown): CellarError {
  return new CellarError('invalid-input', message, {
    hint: 'Give a folder as a path (./backups, /srv/backups) or as file:///srv/backups, with odd characters percent-encoded (%20, %23, %3F).',
    ...(cause === undefined ? {} : { cause }),
  });
}
