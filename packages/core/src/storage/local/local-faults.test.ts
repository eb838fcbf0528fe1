/** What can go wrong in a local folder: each with the real file system, nothing simulated. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseObjectName, type Storage } from '../storage.ts';
import { publish } from './durable-file.ts';
import { openLocalStorage } from './local-storage.ts';
import { ownMark } from './writer-mark.ts';

const { signal } = new AbortController();
const MIB = 1024 * 1024;
const A = parseObjectName('packs/a');
const HERE = fileURLToPath(new URL('.', import.meta.url));
const isRoot = process.getuid?.() === 0;
/** A user without rights of its own, on every Unix. */
const NOBODY = 65534;

let folder: string;
let root: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cellar-local-'));
  root = join(folder, 'root');
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function namesOf(storage: Storage, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of storage.list(prefix, { signal })) names.push(name);
  return names.sort();
}

async function read(storage: Storage, name = A): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of storage.get(name, { signal })) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function unfinished(): Promise<string[]> {
  return await readdir(join(root, '.cellar-tmp'));
}

/** Runs as a user that file modes apply to. */
async function asNobody<T>(run: () => Promise<T>): Promise<T> {
  if (!isRoot) return await run();
  process.seteuid?.(NOBODY);
  try {
    return await run();
  } finally {
    process.seteuid?.(0);
  }
}

describe('which folder', () => {
  test('paths and file URLs name the same folder, percent-encoding and all', async () => {
    const odd = join(folder, 'a b%20ü#?');
    const storage = await openLocalStorage(odd);
    await storage.put(A, Buffer.from('x'), { signal });
    expect(storage.url).toBe(pathToFileURL(odd).href);
    const again = await openLocalStorage(storage.url);
    expect(await namesOf(again)).toEqual(['packs/a']);
    expect((await openLocalStorage('backups/daily')).url).toBe(
      pathToFileURL(join(process.cwd(), 'backups/daily')).href,
    );
    expect((await openLocalStorage('file://localhost/srv')).url).toBe('file:///srv');
  });

  test.each([
    '',
    'a\0b',
    'file://host/path',
    'file:///a%2',
    'file:///a%00b',
    'file:///a%2Fb',
    'file:///a?b',
    'file:///a#b',
    'file:///a?',
    'file://./backups',
    's3://bucket/x',
    'file://user:hunter2@host/path',
  ])('%j names none', async (text) => {
    const failure = await openLocalStorage(text).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'invalid-input', hint: expect.stringContaining('file:///') });
    expect(String(failure)).not.toContain('hunter2');
  });

  test('a file is no folder', async () => {
    await writeFile(root, 'x');
    await expect(openLocalStorage(root)).rejects.toMatchObject({
      code: 'invalid-input',
      message: expect.stringContaining(root),
    });
  });
});

describe('a folder that is not there', () => {
  test('opening creates nothing; it holds nothing; the first put creates it', async () => {
    const storage = await openLocalStorage(root);
    expect(await namesOf(storage)).toEqual([]);
    await expect(storage.stat(A, { signal })).rejects.toMatchObject({ code: 'not-found' });
    await storage.delete(A, { signal });
    await storage.now({ signal });
    expect(await readdir(folder)).toEqual([]);
    await storage.put(A, Buffer.from('x'), { signal });
    expect(await namesOf(storage)).toEqual(['packs/a']);
  });

  test('when the folder around it is missing too, that is a failure and no emptiness', async () => {
    const storage = await openLocalStorage(join(root, 'backups'));
    const missing = { code: 'storage-failed', hint: expect.stringContaining('mounted') };
    await expect(namesOf(storage)).rejects.toMatchObject(missing);
    await expect(storage.stat(A, { signal })).rejects.toMatchObject(missing);
    await expect(read(storage)).rejects.toMatchObject(missing);
    await expect(storage.delete(A, { signal })).rejects.toMatchObject(missing);
    await expect(storage.now({ signal })).rejects.toMatchObject(missing);
    await expect(storage.put(A, Buffer.from('x'), { signal })).rejects.toMatchObject(missing);
    expect(await readdir(folder)).toEqual([]);
  });

  test('a folder that was there and is gone is a failure for reader and writer, and is not created again', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await rename(root, `${root} unmounted`);
    const gone = { code: 'storage-failed', message: expect.stringContaining('gone') };
    await expect(namesOf(storage)).rejects.toMatchObject(gone);
    await expect(storage.stat(A, { signal })).rejects.toMatchObject(gone);
    await expect(read(storage)).rejects.toMatchObject(gone);
    await expect(storage.delete(A, { signal })).rejects.toMatchObject(gone);
    await expect(storage.put(parseObjectName('packs/b'), Buffer.from('x'), { signal })).rejects.toMatchObject(gone);
    expect(await readdir(folder)).toEqual(['root unmounted']);
  });
});

describe('what is written', () => {
  test('files are for their owner only, and no unfinished file is left', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    const modes = await Promise.all(
      ['', 'packs', 'packs/a', '.cellar-tmp'].map(async (name) => (await lstat(join(root, name))).mode & 0o777),
    );
    expect(modes).toEqual([0o700, 0o700, 0o600, 0o700]);
    expect(await unfinished()).toEqual([]);
  });

  test('a failing body, an abort and a conflict leave no unfinished file', async () => {
    const storage = await openLocalStorage(root);
    const failing = (async function* () {
      yield Buffer.alloc(MIB);
      throw new Error('broken');
    })();
    await expect(storage.put(A, failing, { signal })).rejects.toThrow('broken');
    expect(await unfinished()).toEqual([]);
    const controller = new AbortController();
    const hanging = (async function* () {
      yield Buffer.alloc(MIB);
      controller.abort();
      await new Promise(() => {});
    })();
    await expect(storage.put(A, hanging, { signal: controller.signal })).rejects.toMatchObject({ code: 'cancelled' });
    expect(await unfinished()).toEqual([]);
    await storage.put(A, Buffer.from('x'), { signal });
    await expect(storage.put(A, Buffer.from('y'), { signal })).rejects.toMatchObject({ code: 'conflict' });
    expect(await unfinished()).toEqual([]);
  });

  test('a writer that is killed leaves nothing that is listed, and the next writer clears its unfinished file', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(parseObjectName('packs/before'), Buffer.from('x'), { signal });
    const writer = spawn(process.execPath, ['--input-type=module', '-e', WRITE_WITHOUT_END, HERE, root], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(writer.stdout, 'data');
    const [left] = await unfinished();
    // Alive, it is left in peace.
    await (await openLocalStorage(root)).put(A, Buffer.from('x'), { signal });
    expect(await unfinished()).toEqual([left]);
    writer.kill('SIGKILL');
    await once(writer, 'exit');
    expect((await lstat(join(root, '.cellar-tmp', left ?? ''))).size).toBeGreaterThan(MIB);
    expect(await namesOf(storage)).toEqual(['packs/a', 'packs/before']);
    await (await openLocalStorage(root)).put(parseObjectName('packs/b'), Buffer.from('x'), { signal });
    expect(await unfinished()).toEqual([]);
  });

  test('unfinished files of writers elsewhere stay for a day, then they go', async () => {
    await (await openLocalStorage(root)).put(A, Buffer.from('x'), { signal });
    const mine = await ownMark();
    const elsewhere = `0123456789abcdef-${process.pid}-1_a`;
    // On this machine, but a number that was given to another process since: to this one.
    const before = `${mine?.split('-').slice(0, 2).join('-')}-1_b`;
    const files = [elsewhere, 'no mark', '_', `${mine}_c`];
    for (const file of [before, ...files]) await writeFile(join(root, '.cellar-tmp', file), 'x');
    await (await openLocalStorage(root)).put(parseObjectName('packs/b'), Buffer.from('x'), { signal });
    expect((await unfinished()).sort()).toEqual((mine === undefined ? [before, ...files] : files).sort());
    const old = new Date(Date.now() - 25 * 60 * 60 * 1000);
    for (const file of await unfinished()) await utimes(join(root, '.cellar-tmp', file), old, old);
    await (await openLocalStorage(root)).put(parseObjectName('packs/c'), Buffer.from('x'), { signal });
    expect(await unfinished()).toEqual([]);
  });

  test('names of unfinished files are refused', async () => {
    const storage = await openLocalStorage(root);
    for (const name of ['.cellar-tmp', '.cellar-tmp/x']) {
      await expect(storage.put(parseObjectName(name), Buffer.from('x'), { signal })).rejects.toMatchObject({
        code: 'invalid-input',
      });
    }
  });

  test('a name below an object is a conflict, and so is an object where a folder stands', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await expect(storage.put(parseObjectName('packs/a/b'), Buffer.from('y'), { signal })).rejects.toMatchObject({
      code: 'conflict',
    });
    await expect(storage.put(parseObjectName('packs'), Buffer.from('y'), { signal })).rejects.toMatchObject({
      code: 'conflict',
    });
    expect(await namesOf(storage)).toEqual(['packs/a']);
  });
});

const WRITE_WITHOUT_END = `
  const [here, root] = process.argv.slice(1);
  const { openLocalStorage } = await import(here + 'local-storage.ts');
  const storage = await openLocalStorage(root);
  async function* body() {
    for (let i = 0; ; i++) {
      if (i === 8) process.stdout.write('writing');
      if (i > 8) await new Promise((resolve) => setTimeout(resolve, 5));
      yield Buffer.alloc(${MIB} / 2);
    }
  }
  await storage.put('packs/endless', body(), { signal: new AbortController().signal });
`;

describe('unusual file systems', () => {
  const noLinks = async (): Promise<void> => {
    throw Object.assign(new Error('operation not permitted'), { code: 'EPERM' });
  };

  test('without hard links a file still gets its name at once, and none is replaced', async () => {
    await mkdir(root);
    const [temporary, path] = [join(root, 'temporary'), join(root, 'object')];
    await writeFile(temporary, 'first');
    await publish(A, temporary, path, noLinks);
    expect(await readdir(root)).toEqual(['object']);
    await writeFile(temporary, 'second');
    await expect(publish(A, temporary, path, noLinks)).rejects.toMatchObject({ code: 'conflict' });
    expect(await readFile(path, 'utf8')).toBe('first');
  });

  test('a link whose answer was lost on the network is known to be ours', async () => {
    await mkdir(root);
    const [temporary, path] = [join(root, 'temporary'), join(root, 'object')];
    await writeFile(temporary, 'ours');
    await publish(A, temporary, path, async (from, to) => {
      await link(from, to);
      await link(from, to);
    });
    expect(await readFile(path, 'utf8')).toBe('ours');
  });

  test.skipIf(!isRoot)('one that is mounted inside the folder is refused for writing, with what to do', async () => {
    await mkdir(join(root, 'packs'), { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', join(root, 'packs')]);
    try {
      const storage = await openLocalStorage(root);
      await expect(storage.put(A, Buffer.from('x'), { signal })).rejects.toMatchObject({
        code: 'storage-failed',
        hint: expect.stringContaining('one file system'),
      });
      expect(await unfinished()).toEqual([]);
      await writeFile(join(root, 'packs/a'), 'x');
      expect(await namesOf(storage)).toEqual(['packs/a']);
    } finally {
      execFileSync('umount', [join(root, 'packs')]);
    }
  });
});

describe('a full disk', () => {
  test.skipIf(!isRoot)('is told as such, leaves nothing, and room that is made can be used', async () => {
    await mkdir(root);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', root]);
    try {
      const storage = await openLocalStorage(root);
      await storage.put(A, Buffer.alloc(MIB), { signal });
      const full = storage.put(parseObjectName('packs/b'), Buffer.alloc(1.5 * MIB), { signal });
      await expect(full).rejects.toMatchObject({
        code: 'storage-full',
        retryable: false,
        message: expect.stringContaining(root),
        hint: expect.stringContaining('Free space'),
      });
      expect(await namesOf(storage)).toEqual(['packs/a']);
      expect(await unfinished()).toEqual([]);
      await storage.delete(A, { signal });
      await storage.put(parseObjectName('packs/b'), Buffer.alloc(1.5 * MIB), { signal });
      expect((await read(storage, parseObjectName('packs/b'))).length).toBe(1.5 * MIB);
    } finally {
      execFileSync('umount', [root]);
    }
  });

  test('a file larger than the process may write is told the same way', async () => {
    await mkdir(root);
    const script = `
      const [here, root] = process.argv.slice(1);
      const { openLocalStorage } = await import(here + 'local-storage.ts');
      const storage = await openLocalStorage(root);
      const signal = new AbortController().signal;
      await storage.put('packs/a', Buffer.alloc(${2 * MIB}), { signal }).catch(({ code, message }) => console.log(code, message));
    `;
    // The limit counts blocks of 1 KiB; ignoring its signal turns it into EFBIG.
    const output = execFileSync(
      'bash',
      [
        '-c',
        'trap "" XFSZ; ulimit -f 1024; exec "$0" "$@"',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
        HERE,
        root,
      ],
      { encoding: 'utf8' },
    );
    expect(output).toMatch(/^storage-full .*EFBIG/);
    expect(await unfinished()).toEqual([]);
    expect(await namesOf(await openLocalStorage(root))).toEqual([]);
  });
});

describe('what may not be touched', () => {
  const denied = { code: 'storage-failed', message: expect.stringContaining('permission'), hint: expect.any(String) };

  test('an unreadable object or folder is a failure, never an absence or a shorter list', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await storage.put(parseObjectName('other/b'), Buffer.from('x'), { signal });
    await chmod(folder, 0o755);
    await chmod(root, 0o755);
    await chmod(join(root, 'packs'), 0o755);
    await chmod(join(root, 'other'), 0o000);
    await chmod(join(root, 'packs/a'), 0o000);
    await asNobody(async () => {
      await expect(read(storage)).rejects.toMatchObject(denied);
      expect((await storage.stat(A, { signal })).size).toBe(1);
      await expect(read(storage, parseObjectName('other/b'))).rejects.toMatchObject(denied);
      await expect(storage.stat(parseObjectName('other/b'), { signal })).rejects.toMatchObject(denied);
      await expect(namesOf(storage)).rejects.toMatchObject(denied);
      expect(await namesOf(storage, 'packs/')).toEqual(['packs/a']);
    });
    await chmod(join(root, 'other'), 0o700);
  });

  test('a folder that may not be written is a failure that names it, for put and delete; reading and the clock go on', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await chmod(folder, 0o755);
    for (const [path, mode] of [
      ['packs/a', 0o644],
      ['packs', 0o555],
      ['.cellar-tmp', 0o555],
      ['', 0o555],
    ] as const)
      await chmod(join(root, path), mode);
    await asNobody(async () => {
      const reader = await openLocalStorage(root);
      await expect(reader.put(parseObjectName('packs/b'), Buffer.from('x'), { signal })).rejects.toMatchObject({
        ...denied,
        details: { path: expect.stringContaining(root) },
      });
      await expect(reader.delete(A, { signal })).rejects.toMatchObject(denied);
      expect((await read(reader)).toString()).toBe('x');
      expect(Math.abs((await reader.now({ signal })).getTime() - Date.now())).toBeLessThan(5000);
    });
    for (const path of ['', 'packs', '.cellar-tmp']) await chmod(join(root, path), 0o700);
  });
});

describe('what is in the folder besides objects', () => {
  test('links to files, pipes, odd names and lost+found are skipped', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await symlink(join(root, 'packs/a'), join(root, 'latest'));
    await symlink(join(root, 'nowhere'), join(root, 'dangling'));
    await symlink(join(root, 'packs'), join(root, 'packs too'));
    await writeFile(join(root, 'line\nbreak'), 'x');
    await writeFile(join(root, 'back\\slash'), 'x');
    await writeFile(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), 'x');
    await mkdir(join(root, 'lost+found'));
    await writeFile(join(root, 'lost+found', '#1234'), 'x');
    execFileSync('mkfifo', [join(root, 'pipe')]);
    expect(await namesOf(storage)).toEqual(['packs/a']);
    await expect(read(storage, parseObjectName('pipe'))).rejects.toMatchObject({ code: 'not-found' });
    for (const link of ['latest', 'packs too/a']) {
      await expect(read(storage, parseObjectName(link))).rejects.toMatchObject({
        code: 'storage-failed',
        message: expect.stringContaining('link'),
      });
      await expect(storage.stat(parseObjectName(link), { signal })).rejects.toMatchObject({ code: 'storage-failed' });
      await expect(storage.delete(parseObjectName(link), { signal })).rejects.toMatchObject({ code: 'storage-failed' });
    }
  });

  test('no name leads out of the folder through a link, and a listing says that it cannot be whole', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    await mkdir(join(folder, 'outside'));
    await writeFile(join(folder, 'outside/secret'), 'secret');
    await symlink(join(folder, 'outside'), join(root, 'out'));
    const refused = { code: 'storage-failed', message: expect.stringContaining('link') };
    await expect(read(storage, parseObjectName('out/secret'))).rejects.toMatchObject(refused);
    await expect(storage.put(parseObjectName('out/new'), Buffer.from('x'), { signal })).rejects.toMatchObject(refused);
    await expect(storage.put(parseObjectName('out/deep/new'), Buffer.from('x'), { signal })).rejects.toMatchObject(
      refused,
    );
    await expect(storage.delete(parseObjectName('out/secret'), { signal })).rejects.toMatchObject(refused);
    await expect(namesOf(storage)).rejects.toMatchObject(refused);
    expect(await namesOf(storage, 'packs/')).toEqual(['packs/a']);
    expect(await readdir(join(folder, 'outside'))).toEqual(['secret']);
    expect(await readFile(join(folder, 'outside/secret'), 'utf8')).toBe('secret');
  });

  test.each([
    ['there', true],
    ['on a disk that is not mounted', false],
  ])('a file that was moved away and linked is no file that was deleted: its target is %s', async (_, isThere) => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    if (isThere) await writeFile(join(folder, 'moved'), 'a manifest');
    await symlink('../../moved', join(root, 'packs/b'));
    await expect(namesOf(storage)).rejects.toMatchObject({
      code: 'storage-failed',
      message: expect.stringContaining('packs/b'),
    });
  });

  test('the folder itself may be a link that a person made', async () => {
    await mkdir(join(folder, 'elsewhere'));
    await symlink(join(folder, 'elsewhere'), root);
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.from('x'), { signal });
    expect(await namesOf(storage)).toEqual(['packs/a']);
    expect((await read(storage)).toString()).toBe('x');
  });
});

describe('reading', () => {
  test('pieces are large', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.alloc(2 * MIB + 5), { signal });
    const sizes: number[] = [];
    for await (const piece of storage.get(A, { signal })) sizes.push(piece.length);
    expect(sizes.slice(0, -1).every((size) => size >= 256 * 1024)).toBe(true);
  });

  test('a file that is cut while it is read is damage, not a shorter answer', async () => {
    const storage = await openLocalStorage(root);
    await storage.put(A, Buffer.alloc(4 * MIB), { signal });
    const reading = (async () => {
      for await (const _ of storage.get(A, { signal })) await truncate(join(root, 'packs/a'), MIB + 7);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'damaged', details: { object: 'packs/a' } });
  });
});
