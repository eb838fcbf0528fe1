/**
 * What an error of the file system means for a storage, in one table: which are an absence, which a full disk, which may pass by
 * themselves. Everything unknown is a failure that names the path; nothing but ENOENT and ENOTDIR is ever an absence.
 */
import { CellarError } from '../../errors.ts';

/** The system's error code, `''` when the value is no system error. */
export function systemCode(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return '';
  return error.code;
}

/** True when the path, or a folder on the way to it, is not there. */
export function isAbsence(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

const FULL: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than the file system or the process limit allows',
};

const FAILED: Readonly<Record<string, { readonly why: string; readonly hint: string; readonly retryable?: boolean }>> =
  {
    EACCES: {
      why: 'permission was denied',
      hint: 'Give the user that runs Cellar the right to this path, or run Cellar as its owner.',
    },
    EPERM: {
      why: 'the operation is not permitted',
      hint: 'Check the owner of this path, and whether it is marked immutable (lsattr).',
    },
    EROFS: {
      why: 'the file system is mounted read-only',
      hint: 'Mount it writable; after disk errors, check the disk first (dmesg).',
    },
    EIO: {
      why: 'the disk reported an input/output error',
      hint: 'Check the disk and its cable or network (dmesg, smartctl).',
    },
    ENAMETOOLONG: { why: 'the path is too long for this file system', hint: 'Use a folder with a shorter path.' },
    ELOOP: {
      why: 'a symbolic link stands in the way',
      hint: 'Cellar follows no links below the folder it was given: put the real file or folder there.',
    },
    EXDEV: {
      why: 'another file system is mounted inside the folder',
      hint: 'Give Cellar a folder that lies on one file system as a whole.',
    },
    EMFILE: { why: 'too many files are open', hint: 'Raise the limit of open files (ulimit -n).', retryable: true },
    ENFILE: { why: 'the system has too many files open', hint: 'Try again, or raise fs.file-max.', retryable: true },
    ESTALE: { why: 'the network file system lost the file', hint: 'Check the mount, then try again.', retryable: true },
    ETIMEDOUT: {
      why: 'the file system did not answer in time',
      hint: 'Check the mount, then try again.',
      retryable: true,
    },
    EAGAIN: { why: 'the file system is busy', hint: 'Try again.', retryable: true },
    EBUSY: { why: 'the file is busy', hint: 'Try again.', retryable: true },
  };

/**
 * The CellarError for a failed file operation. Passes CellarErrors through.
 * @param doing what was tried, after "Cellar could not": `write object packs/ab/1`.
 */
export function fileError(error: unknown, doing: string, path: string): CellarError {
  if (error instanceof CellarError) return error;
  const code = systemCode(error);
  const details = { path, ...(code === '' ? {} : { errno: code }) };
  const full = FULL[code];
  if (full !== undefined) {
    return new CellarError('storage-full', `Cellar could not ${doing} at ${path}: ${full} (${code}).`, {
      hint: 'Free space there, or remove old backups with "cellar cleanup", then try again. Nothing half-written was kept.',
      cause: error,
      details,
    });
  }
  const known = FAILED[code];
  const why = known?.why ?? (error instanceof Error ? error.message : String(error));
  return new CellarError(
    'storage-failed',
    `Cellar could not ${doing} at ${path}: ${why}${code === '' ? '' : ` (${code})`}.`,
    {
      hint: known?.hint ?? 'Check that the path is there and that its file system is healthy.',
      retryable: known?.retryable ?? false,
      cause: error,
      details,
    },
  );
}
