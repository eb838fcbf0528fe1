/**
 * Whether the target's disk has room for a second copy of the data, where that can be known: the server runs on this machine and says
 * where its files are. PostgreSQL itself does not tell. A disk that runs full would not only fail the restore but stop the server.
 */
import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { CellarError } from '../../errors.ts';
import type { BackupContents } from '../engine.ts';
import type { Connection } from './connection.ts';

/** Throws `storage-full` when less is free than the rows alone take as text. Rows with their indexes usually take more than that. */
export async function checkFreeSpace(connection: Connection, contents: BackupContents): Promise<void> {
  const { host } = connection.target;
  if (!host.startsWith('/') && host !== 'localhost' && host !== '::1' && !host.startsWith('127.')) return;
  const sizes = contents.entries.map((entry) => contents.sizeOf(entry) ?? 0);
  const needed = sizes.reduce((sum, size) => sum + size, 0);
  const free = await freeBytes(connection);
  if (free === undefined || free >= needed) return;
  throw new CellarError(
    'storage-full',
    `The restore needs at least ${megabytes(needed)} on the disk of the database server, and ${megabytes(free)} are free.`,
    {
      hint: 'Free some space there, or remove databases kept by earlier restores (their names have _before_ in them).',
      details: { neededBytes: needed, freeBytes: free },
    },
  );
}

/** undefined where this user, or this process, may not know. A container's path may not be ours: the folder must be the server's. */
async function freeBytes(connection: Connection): Promise<number | undefined> {
  try {
    const [row] = await connection.query(
      `SELECT setting AS folder FROM pg_settings WHERE name = 'data_directory'`,
      'look up where the server keeps its files',
    );
    const folder = row?.['folder'];
    if (typeof folder !== 'string' || folder === '') return undefined;
    await stat(join(folder, 'PG_VERSION'));
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1_000_000).toLocaleString('en')} MB`;
}
