/**
 * The folder of a local storage: where names lead, whether it is there at all, and what must never be mistaken for an empty one.
 *
 * - A folder that has been seen and is gone later (an unmounted disk) is a failure, never an absence of objects.
 * - A folder that was never there holds nothing, as long as the folder around it exists; the first `put` creates it.
 * - Names never lead out: symbolic links below the root are not followed. (The root itself may be one: a person chose it.)
 */
import { lstat, mkdir, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CellarError } from '../../errors.ts';
import { notThere } from '../body.ts';
import type { ObjectName } from '../storage.ts';
import { syncFolder } from './durable-file.ts';
import { fileError, isAbsence, systemCode } from './file-errors.ts';

/** Unfinished files live here, directly below the root: the same file system, and a place that no listing shows. */
export const UNFINISHED = '.cellar-tmp';

export class LocalRoot {
  readonly path: string;
  #seen: boolean;
  readonly #durable = new Set<string>();

  private constructor(path: string, seen: boolean) {
    this.path = path;
    this.#seen = seen;
  }

  /** Looks at the folder without creating it. Throws `invalid-input` when something else is there. */
  static async open(path: string): Promise<LocalRoot> {
    return new LocalRoot(path, await isFolder(path));
  }

  /** The path of an object. Throws `invalid-input` for names that are kept for unfinished files. */
  pathOf(name: ObjectName): string {
    if (name === UNFINISHED || name.startsWith(`${UNFINISHED}/`)) {
      throw new CellarError('invalid-input', `The name ${name} is kept for unfinished files.`);
    }
    return join(this.path, name);
  }

  /**
   * Throws unless the folder of an object lies inside the root without a symbolic link on the way. An absent folder passes: whatever
   * is done next finds the absence by itself.
   */
  async checkInside(path: string): Promise<void> {
    const folder = dirname(path);
    try {
      const [root, real] = await Promise.all([realpath(this.path), realpath(folder)]);
      if (real === join(root, folder.slice(this.path.length))) return;
    } catch (error) {
      if (isAbsence(error)) return;
      throw fileError(error, 'reach the folder of an object', folder);
    }
    throw followedLink(folder);
  }

  /** Whether the root is there. Throws `storage-failed` when it is gone but was there before, or when what holds it is missing. */
  async exists(): Promise<boolean> {
    if (await isFolder(this.path)) {
      this.#seen = true;
      return true;
    }
    if (this.#seen) {
      throw new CellarError('storage-failed', `The folder ${this.path} was there before and is gone now.`, {
        hint: 'Check that its disk or network share is still mounted.',
        details: { path: this.path },
      });
    }
    if (await isFolder(dirname(this.path))) return false;
    throw new CellarError('storage-failed', `There is no folder ${dirname(this.path)} that could hold ${this.path}.`, {
      hint: 'Check that its disk or network share is mounted, or create the outer folder first.',
      details: { path: this.path },
    });
  }

  /** The error for an object whose path was not found: `not-found`, or `storage-failed` where the whole root is missing. */
  async absence(name: ObjectName): Promise<CellarError> {
    await this.exists();
    return notThere(name);
  }

  /** Creates the root when it was never there, and the folders of `path` below it, so that they outlive a power cut. */
  async prepareFolder(folder: string): Promise<void> {
    if (this.#durable.has(folder) && (await isFolder(folder))) return;
    if (!(await this.exists())) {
      await this.#make(this.path);
      this.#seen = true;
    }
    const below = folder.slice(this.path.length).split('/').filter(Boolean);
    let current = this.path;
    for (const segment of below) {
      current = join(current, segment);
      await this.#make(current);
    }
    this.#durable.add(folder);
  }

  /** Another process may have made the folder a moment ago and not synced it yet, so its parent is synced in either case. */
  async #make(folder: string): Promise<void> {
    let made = true;
    try {
      await mkdir(folder, { mode: 0o700 });
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw fileError(error, 'create a folder', folder);
      made = false;
      const found = await lstat(folder);
      if (found.isSymbolicLink() && folder !== this.path) throw followedLink(folder);
      if (found.isFile()) {
        throw new CellarError('conflict', `An object or file stands at ${folder}, where a folder is needed.`, {
          hint: 'Remove or rename the file, or use another folder.',
        });
      }
    }
    if (!made && this.#durable.has(folder)) return;
    await syncFolder(dirname(folder));
    this.#durable.add(folder);
  }
}

/** The error for a path below the root that a symbolic link would lead elsewhere. */
export function followedLink(path: string): CellarError {
  return new CellarError('storage-failed', `A symbolic link stands in the way at ${path}.`, {
    hint: 'Cellar follows no links below the folder it was given. Put the real file or folder there, or mount it there.',
    details: { path },
  });
}

async function isFolder(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw fileError(error, 'look at the folder', path);
  }
  throw new CellarError('invalid-input', `${path} is a file, not a folder.`, {
    hint: 'Give the folder that holds it.',
  });
}
