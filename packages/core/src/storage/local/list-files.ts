/**
 * Walking the folder of a local storage. A folder that cannot be read is an error, never a shorter list; what cannot be an object
 * (links to files, sockets, names that are not valid) is skipped.
 */
import type { Dirent } from 'node:fs';
import { lstat, opendir, readlink, realpath } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { throwIfAborted } from '../../errors.ts';
import { isObjectName, type ObjectName, type StoredObject } from '../storage.ts';
import { fileError, isAbsence } from './file-errors.ts';
import { followedLink, UNFINISHED } from './local-root.ts';

/** Files looked at together: the file system answers several at once. */
const BATCH = 64;

/** The objects below `root` whose names start with `prefix`. `root` must exist. */
export async function* listFiles(
  root: string,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<StoredObject, void, undefined> {
  // Start at the deepest folder that every match must lie in; a prefix that no valid name can have matches nothing.
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  if (folder !== '' && !isObjectName(folder.slice(0, -1))) return;
  let batch: ObjectName[] = [];
  for await (const name of walk(root, folder, prefix, signal)) {
    batch.push(name);
    if (batch.length < BATCH) continue;
    yield* await lookAtAll(root, batch);
    batch = [];
  }
  yield* await lookAtAll(root, batch);
}

async function* walk(
  root: string,
  folder: string,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<ObjectName, void, undefined> {
  const folders: string[] = [];
  for await (const found of entriesOf(root, folder)) {
    throwIfAborted(signal);
    const name = `${folder}${found.name}`;
    const maybe = name.startsWith(prefix) || `${name}/`.startsWith(prefix);
    if (!maybe || !isObjectName(name) || isNoneOfOurs(name)) continue;
    if (found.isDirectory()) folders.push(`${name}/`);
    else if (found.isSymbolicLink()) await refuseLinkOut(root, name);
    else if (found.isFile() && name.startsWith(prefix)) yield name;
  }
  for (const inner of folders) yield* walk(root, inner, prefix, signal);
}

async function* entriesOf(root: string, folder: string): AsyncGenerator<Dirent, void, undefined> {
  const path = join(root, folder);
  try {
    yield* await opendir(path, { bufferSize: 1024 });
  } catch (error) {
    // A folder below the root that is not there holds no objects; the root itself was there a moment ago.
    if (folder !== '' && isAbsence(error)) return;
    throw fileError(error, 'list the folder', path);
  }
}

/** Unfinished files, and what every ext4 file system has at its top and only root may read. */
function isNoneOfOurs(name: string): boolean {
  return name === UNFINISHED || name === 'lost+found';
}

/**
 * A link to a folder or file elsewhere hides objects that a listing must not silently leave out: the chunks of a backup whose manifest was moved
 * away and linked would be collected as garbage. One that stays inside hides none.
 */
async function refuseLinkOut(root: string, name: string): Promise<void> {
  const path = join(root, name);
  try {
    const top = await realpath(root);
    const target = await targetOf(path);
    if (target === top || target.startsWith(top.endsWith(sep) ? top : `${top}${sep}`)) return;
  } catch (error) {
    if (isAbsence(error)) return;
    throw fileError(error, 'list the folder', path);
  }
  throw followedLink(path);
}

/** Also of a link whose target is not there, as when its disk is not mounted. */
async function targetOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isAbsence(error)) throw error;
    return resolve(await realpath(dirname(path)), await readlink(path));
  }
}

async function lookAtAll(root: string, names: readonly ObjectName[]): Promise<readonly StoredObject[]> {
  const looked = await Promise.all(names.map((name) => lookAt(root, name)));
  return looked.filter((object) => object !== undefined);
}

/** Undefined for a file that was deleted since its folder was read. */
async function lookAt(root: string, name: ObjectName): Promise<StoredObject | undefined> {
  const path = join(root, name);
  try {
    const stats = await lstat(path);
    return stats.isFile() ? { name, size: stats.size, modifiedAt: stats.mtime } : undefined;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw fileError(error, 'look at', path);
  }
}
