import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { describe, expect, it } from 'vitest';
import { type TestDatabase, testDatabase } from '../../test/harness/databases.ts';
import { type Dump, type DumpOptions, NO_FILTERS, type ScriptLocator } from '../engine/engine.ts';
import { postgres } from '../engine/postgres/postgres.ts';
import { CellarError, isCellarError } from '../errors.ts';
import { openLocalStorage } from '../storage/local/local-storage.ts';
import { createMemoryStorage } from '../storage/memory/memory-storage.ts';
import { parseObjectName, type Storage } from '../storage/storage.ts';
import { compareDatabases } from '../testing/compare-databases.ts';
import { SimulatedStorage } from '../testing/simulated-storage.ts';
import { NO_AGE_KEYS } from './age.ts';
import { prefixFor } from './file-name.ts';
import type { PlainBackup } from './plain-backup.ts';
import { PlainFolder, type PlainWrite } from './plain-folder.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const NOW = new Date('2024-11-08T12:00:00.250Z');
const DUMP: DumpOptions = { filters: NO_FILTERS, globals: false, jobs: 1, lockTimeoutMs: 5000, stallTimeoutMs: 60_000 };

async function backUp(
  folder: PlainFolder,
  database: TestDatabase,
  changes: Partial<PlainWrite> = {},
  changeDump: (dump: Dump) => Dump = (dump) => dump,
): Promise<PlainBackup> {
  await using dump = await postgres.openScriptDump(database.url, DUMP, signal);
  return await folder.write({
    engine: postgres,
    dump: changeDump(dump),
    prefix: 'hoppybrew',
    description: 'Pre-upgrade backup',
    compression: 'gzip',
    encryption: undefined,
    filters: NO_FILTERS,
    now: NOW,
    onProgress: () => {},
    signal,
    ...changes,
  });
}

async function names(storage: Storage): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of storage.list('', { signal })) found.push(name);
  return found.sort();
}

async function read(storage: Storage, name: string): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const piece of storage.get(parseObjectName(name), { signal })) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

async function put(storage: Storage, name: string, body: Uint8Array | string): Promise<void> {
  await storage.put(parseObjectName(name), typeof body === 'string' ? Buffer.from(body) : body, { signal });
}

async function replace(storage: Storage, name: string, body: Uint8Array): Promise<void> {
  await storage.delete(parseObjectName(name), { signal });
  await put(storage, name, body);
}

async function smallDatabase(): Promise<TestDatabase> {
  const database = await testDatabase();
  await database.cluster.psql(
    'CREATE TABLE beers (id int PRIMARY KEY, name text); INSERT INTO beers SELECT i, repeat($$ale $$, i) FROM generate_series(1, 50) i',
    database.name,
  );
  return database;
}

/** A file as `pg_dump | gzip` of the older application left it. */
async function legacyFile(database: TestDatabase, options: readonly string[] = []): Promise<Buffer> {
  const { stdout } = await run(
    '/bin/sh',
    [
      '-c',
      'tool=$1; shift; "$tool" "$@" | gzip -c',
      'legacy',
      join(database.cluster.binaries, 'pg_dump'),
      ...options,
      database.name,
    ],
    { env: { ...process.env, ...database.cluster.environment() }, encoding: 'buffer', maxBuffer: 2 ** 30 },
  );
  return stdout;
}

describe('a backup in a plain folder', () => {
  it('is a file that gunzip and psql alone restore, with a sidecar for the clients of the older application', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using copy = await testDatabase();
    const path = await mkdtemp(join(tmpdir(), 'cellar-plain-'));
    try {
      const backup = await backUp(new PlainFolder(await openLocalStorage(path)), source);
      expect(backup.name.fileName).toBe('hoppybrew_backup_20241108_120000.sql.gz');
      const file = join(path, backup.name.fileName);
      const sidecar = JSON.parse(await readFile(join(path, 'hoppybrew_backup_20241108_120000.sql.json'), 'utf8'));
      expect(sidecar).toMatchObject({
        filename: backup.name.fileName,
        timestamp: '20241108_120000',
        created_at: '2024-11-08T12:00:00.250Z',
        description: 'Pre-upgrade backup',
        size_bytes: (await readFile(file)).length,
        database_name: source.name,
        database_host: postgres.describe(source.url).host,
        complete: true,
      });
      const { cluster } = source;
      await run(
        '/bin/sh',
        [
          '-c',
          'gunzip -c "$1" | "$2" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$3" >/dev/null',
          'restore',
          file,
          join(cluster.binaries, 'psql'),
          copy.name,
        ],
        { env: { ...process.env, ...cluster.environment() } },
      );
      const differences = await compareDatabases(source.url, copy.url);
      expect(differences.filter((difference) => !difference.startsWith('public.ddl_log: '))).toEqual([]);
    } finally {
      await rm(path, { recursive: true });
    }
  });

  it("does not tell the database's settings in clear beside an encrypted file, and says that they are missing", async () => {
    await using source = await smallDatabase();
    await source.cluster.psql(
      `ALTER DATABASE ${source.name} SET app.jwt_secret = 'Tr0ub4dor'; COMMENT ON DATABASE ${source.name} IS 'Tr0ub4dor'`,
    );
    const storage = createMemoryStorage();
    const folder = new PlainFolder(storage);
    const encryption = { kind: 'passphrase', passphrase: 'open sesame' } as const;
    const backup = await backUp(folder, source, { encryption });
    expect((await read(storage, `${backup.name.fileName}.json`)).toString()).not.toContain('Tr0ub4dor');
    expect(backup.facts?.source.warnings).toContainEqual(expect.stringContaining('settings'));
    const open = await backUp(folder, source);
    expect(JSON.stringify(open.facts?.source.details)).toContain('Tr0ub4dor');
    expect(open.facts?.source.warnings).toEqual([]);
  });

  it('is listed, found whole and given back for a restore, compressed and encrypted in each way', async () => {
    await using source = await smallDatabase();
    const identity = await generateIdentity();
    const recipients = [await identityToRecipient(identity)];
    const keys = { identities: [identity], passphrases: ['pale ale'] };
    const folder = new PlainFolder(createMemoryStorage());
    for (const compression of ['gzip', 'zstd'] as const) {
      for (const encryption of [
        undefined,
        { kind: 'recipients' as const, recipients },
        { kind: 'passphrase' as const, passphrase: 'pale ale' },
      ]) {
        const written = await backUp(folder, source, { compression, encryption });
        const backup = await folder.find(written.name.fileName, signal);
        expect(backup).toEqual(written);
        expect(backup.problems).toEqual([]);
        expect(backup.facts?.script).toMatchObject({
          tables: [{ schema: 'public', name: 'beers', rows: 50 }],
          complete: true,
        });
        const verdict = await folder.verify(backup, postgres, keys, signal);
        expect(verdict).toEqual({ depth: 'contents', findings: [], script: backup.facts?.script });
        const contents = await folder.contents(backup, postgres, keys, signal);
        const [entry] = contents.entries;
        if (entry === undefined) throw new Error('there is no entry');
        let bytes = 0;
        for await (const piece of contents.open(entry, signal)) bytes += piece.length;
        expect(bytes).toBe(contents.sizeOf(entry));
        expect(contents.source).toMatchObject({ database: source.name, engine: 'postgres' });
        const stored = (await read(folder.storage, backup.name.fileName)).toString('latin1');
        const sidecars = (await names(folder.storage)).filter((name) => name.endsWith('.json'));
        for (const name of sidecars) {
          const text = (await read(folder.storage, name)).toString();
          expect(text).not.toMatch(/pale ale|AGE-SECRET-KEY/);
        }
        if (encryption !== undefined) expect(stored).toMatch(/^age-encryption\.org\/v1\n/);
      }
    }
    expect((await folder.list(signal)).backups).toHaveLength(6);
  });

  it('is restored by the engine into a new database', async () => {
    await using source = await testDatabase('brewery');
    const folder = new PlainFolder(createMemoryStorage());
    const backup = await backUp(folder, source, { compression: 'zstd' });
    const contents = await folder.contents(backup, postgres, NO_AGE_KEYS, signal);
    const name = `${source.name}_restored`;
    try {
      await postgres.restore(
        source.cluster.url(name),
        contents,
        {
          mode: 'new',
          content: 'all',
          owners: 'keep',
          privileges: 'keep',
          globals: false,
          jobs: 1,
          prove: false,
          stallTimeoutMs: 60_000,
          now: NOW,
        },
        () => {},
        signal,
      );
      expect(await compareDatabases(source.url, source.cluster.url(name))).toEqual([]);
    } finally {
      await source.cluster.dropDatabase(name);
    }
  });

  it('needs a key to be read when it is encrypted; without one its digest is still compared', async () => {
    await using source = await smallDatabase();
    const folder = new PlainFolder(createMemoryStorage());
    const backup = await backUp(folder, source, { encryption: { kind: 'passphrase', passphrase: 'pale ale' } });
    const wrong = { identities: [], passphrases: ['stout'] };
    for (const keys of [NO_AGE_KEYS, wrong]) {
      const opening = folder.contents(backup, postgres, keys, signal);
      await expect(opening).rejects.toSatisfy((error) => isCellarError(error, 'wrong-key'));
    }
    expect(await folder.verify(backup, postgres, NO_AGE_KEYS, signal)).toMatchObject({ depth: 'bytes', findings: [] });
    const bytes = await read(folder.storage, backup.name.fileName);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await replace(folder.storage, backup.name.fileName, bytes);
    expect((await folder.verify(backup, postgres, NO_AGE_KEYS, signal)).findings).toHaveLength(1);
  });

  it('takes the next free second, with many at once, in whatever way each is compressed', async () => {
    await using source = await smallDatabase();
    const folder = new PlainFolder(createMemoryStorage());
    await put(folder.storage, 'hoppybrew_backup_20241108_120001.sql.json', '{}');
    const written = await Promise.all(
      [1, 2, 3, 4].map((index) => backUp(folder, source, { compression: index % 2 === 0 ? 'gzip' : 'zstd' })),
    );
    const timestamps = written.map(({ name }) => name.timestamp).sort();
    expect(timestamps).toEqual(['20241108_120000', '20241108_120002', '20241108_120003', '20241108_120004']);
    expect((await names(folder.storage)).filter((name) => name.endsWith('.writing'))).toEqual([]);
    expect(written.every(({ createdAt }) => createdAt.getTime() === NOW.getTime())).toBe(true);
  });

  it('leaves nothing when the dump turns out bad at its very end, is cancelled, or its view is lost', async () => {
    await using source = await smallDatabase();
    const storage = createMemoryStorage();
    const folder = new PlainFolder(storage);
    const bad = new CellarError('mismatch', 'The dump is not whole.');
    const failing = (dump: Dump): Dump => ({
      ...dump,
      finish: () => Promise.reject(bad),
      [Symbol.asyncDispose]: async () => {},
    });
    await expect(backUp(folder, source, {}, failing)).rejects.toBe(bad);
    expect(await names(storage)).toEqual([]);

    const abort = new AbortController();
    const cancelled = backUp(folder, source, { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(cancelled).rejects.toSatisfy((error) => isCellarError(error, 'cancelled'));
    expect(await names(storage)).toEqual([]);

    const lost = new AbortController();
    lost.abort(new CellarError('database-failed', 'The connection was cut.'));
    const losing = (dump: Dump): Dump => ({ ...dump, lost: lost.signal, [Symbol.asyncDispose]: async () => {} });
    await expect(backUp(folder, source, {}, losing)).rejects.toThrow('The connection was cut.');
    expect(await names(storage)).toEqual([]);
  });

  it('is whole or not there after a crash at any operation of the storage, and the next backup works', async () => {
    await using source = await smallDatabase();
    let crashes = 0;
    for (let operation = 1; ; operation++) {
      let crashed = false;
      for (const effect of ['crash-before', 'crash-after'] as const) {
        const storage = new SimulatedStorage();
        const writer = storage.client('writer', { faults: [{ at: operation, effect }] });
        const survivor = new PlainFolder(storage.client('survivor'));
        const attempt = await backUp(new PlainFolder(writer), source).catch((error: unknown) => error);
        if (attempt instanceof Error || (attempt as PlainBackup).problems.length > 0) crashed = true;
        for (const backup of (await survivor.list(signal)).backups) {
          expect((await survivor.verify(backup, postgres, NO_AGE_KEYS, signal)).findings).toEqual([]);
        }
        const next = await backUp(survivor, source);
        expect((await survivor.verify(next, postgres, NO_AGE_KEYS, signal)).findings).toEqual([]);
      }
      if (!crashed) break;
      crashes++;
    }
    expect(crashes).toBeGreaterThanOrEqual(5);
  });
});

describe('files of the older application', () => {
  it('are listed with what is known, with, without and with broken sidecars', async () => {
    await using source = await smallDatabase();
    const storage = createMemoryStorage();
    const folder = new PlainFolder(storage);
    const file = await legacyFile(source);
    const sidecar = {
      filename: 'hoppybrew_backup_20241108_120000.sql.gz',
      timestamp: '20241108_120000',
      created_at: '2024-11-08T12:00:00.123456',
      description: null,
      size_bytes: file.length,
      database_name: 'hoppybrew_db',
      database_host: 'db.example',
    };
    await put(storage, 'hoppybrew_backup_20241108_120000.sql.gz', file);
    await put(storage, 'hoppybrew_backup_20241108_120000.sql.json', JSON.stringify(sidecar));
    await put(storage, 'hoppybrew_backup_20241109_120000.sql.gz', file);
    await put(storage, 'hoppybrew_backup_20241110_120000.sql.gz', file);
    await put(storage, 'hoppybrew_backup_20241110_120000.sql.json', '{"filename": "hoppy');
    await put(storage, 'hoppybrew_backup_20241111_120000.sql.gz', file);
    await put(storage, 'hoppybrew_backup_20241111_120000.sql.json', JSON.stringify(sidecar));
    await put(storage, 'hoppybrew_backup_20241112_120000.sql.gz', file);
    await put(
      storage,
      'hoppybrew_backup_20241112_120000.sql.json',
      JSON.stringify({ size_bytes: 'many', created_at: 7, extra: [1] }),
    );
    await put(storage, 'hoppybrew_backup_20241113_120000.sql.json', JSON.stringify(sidecar));
    await put(storage, 'notes.txt', 'foreign');
    await put(storage, 'dump.sql.gz', 'foreign');

    const { backups, orphanedSidecars } = await folder.list(signal);
    expect(orphanedSidecars).toEqual(['hoppybrew_backup_20241113_120000.sql.json']);
    expect(backups.map(({ name }) => name.timestamp)).toEqual([
      '20241112_120000',
      '20241111_120000',
      '20241110_120000',
      '20241109_120000',
      '20241108_120000',
    ]);
    expect(backups.map(({ problems }) => problems.length)).toEqual([0, 1, 1, 0, 0]);
    expect(backups[4]).toMatchObject({
      createdAt: new Date('2024-11-08T12:00:00.123Z'),
      description: '',
      databaseName: 'hoppybrew_db',
      databaseHost: 'db.example',
      sizeBytes: file.length,
      facts: undefined,
    });
    for (const backup of backups.slice(0, 4)) {
      expect(backup).toMatchObject({ createdAt: backup.name.time, databaseName: 'hoppybrew', databaseHost: '' });
    }
    for (const backup of backups) {
      const verdict = await folder.verify(backup, postgres, NO_AGE_KEYS, signal);
      expect(verdict.script?.tables).toEqual([{ schema: 'public', name: 'beers', rows: 50 }]);
      await folder.delete(backup, signal);
    }
    await folder.deleteOrphan(parseObjectName('hoppybrew_backup_20241113_120000.sql.json'), signal);
    expect(await names(storage)).toEqual(['dump.sql.gz', 'notes.txt']);
  });

  it.each([
    '2024-11-08T12:00:00',
    '2024-11-08 12:00:00.000',
    '2024-11-08T12:00:00.000000Z',
    '2024-11-08T13:00:00+01:00',
    '2024-11-08T13:00:00+0100',
    '2024-11-08T12:00',
  ])('have times in UTC unless they say otherwise: %s', async (text) => {
    const storage = createMemoryStorage();
    await put(storage, 'x_backup_20200101_000000.sql.gz', 'x');
    await put(storage, 'x_backup_20200101_000000.sql.json', JSON.stringify({ created_at: text }));
    const { backups } = await new PlainFolder(storage).list(signal);
    expect(backups[0]?.createdAt.toISOString()).toBe('2024-11-08T12:00:00.000Z');
  });

  it.each(
    [[], ['--clean'], ['--clean', '--if-exists', '--create'], ['--inserts'], ['--no-owner']].map((options) => ({
      options,
    })),
  )('made with pg_dump $options are restored by the engine, and read to their end first', async ({ options }) => {
    await using source = await smallDatabase();
    const folder = new PlainFolder(createMemoryStorage());
    const file = await legacyFile(source, options);
    await put(folder.storage, 'old_backup_20200101_000000.sql.gz', file);
    const contents = await folder.contents(await folder.find('latest', signal), postgres, NO_AGE_KEYS, signal);
    const [entry] = contents.entries;
    expect((entry?.locator as unknown as ScriptLocator | undefined)?.tables).toEqual([
      { schema: 'public', name: 'beers', rows: 50 },
    ]);
    expect(entry === undefined ? 0 : contents.sizeOf(entry)).toBe(gunzipSync(file).length);
    await using target = await smallDatabase();
    await target.cluster.psql('DELETE FROM beers; CREATE TABLE added ()', target.name);
    await postgres.restore(
      target.url,
      contents,
      {
        mode: 'in-place',
        content: 'all',
        owners: 'keep',
        privileges: 'keep',
        globals: false,
        jobs: 1,
        prove: false,
        stallTimeoutMs: 60_000,
        now: NOW,
      },
      () => {},
      signal,
    );
    expect(await compareDatabases(source.url, target.url)).toEqual([]);
  });

  it('are refused for a restore when they are cut, in the gzip or in the script, and named', async () => {
    await using source = await smallDatabase();
    const folder = new PlainFolder(createMemoryStorage());
    const file = await legacyFile(source);
    const script = gunzipSync(file);
    await put(folder.storage, 'cut_backup_20200101_000000.sql.gz', file.subarray(0, -20));
    await put(folder.storage, 'cut_backup_20200102_000000.sql.gz', gzipSync(script.subarray(0, -100)));
    await put(folder.storage, 'cut_backup_20200103_000000.sql.gz', '');
    await put(folder.storage, 'cut_backup_20200104_000000.sql.gz', 'not a gzip');
    for (const backup of (await folder.list(signal)).backups) {
      const opening = folder.contents(backup, postgres, NO_AGE_KEYS, signal);
      await expect(opening).rejects.toSatisfy(
        (error) => isCellarError(error, 'damaged') && error.message.includes(backup.name.fileName),
      );
      expect((await folder.verify(backup, postgres, NO_AGE_KEYS, signal)).findings).toHaveLength(1);
    }
  });
});

describe('verifying a plain backup', () => {
  it('finds every kind of damage', async () => {
    await using source = await smallDatabase();
    const storage = createMemoryStorage();
    const folder = new PlainFolder(storage);
    const { name } = await backUp(folder, source);
    const sidecar = parseObjectName('hoppybrew_backup_20241108_120000.sql.json');
    const file = await read(storage, name.fileName);
    const facts = await read(storage, sidecar);
    const findings = async () => {
      const backup = await folder.find(name.fileName, signal);
      return (await folder.verify(backup, postgres, NO_AGE_KEYS, signal)).findings.join(' ');
    };
    expect(await findings()).toBe('');

    const time = Buffer.from(file);
    time[4] = 1;
    await replace(storage, name.fileName, time);
    expect(await findings()).toMatch(/digest differs/);

    await replace(storage, name.fileName, gzipSync(gunzipSync(file)));
    expect(await findings()).toMatch(/its sidecar says .*digest differs/);

    await replace(storage, name.fileName, file.subarray(0, -1));
    expect(await findings()).toMatch(/damaged or cut off/);

    await replace(storage, name.fileName, file);
    await replace(storage, sidecar, Buffer.from(facts.toString().replace('"rows": 50', '"rows": 51')));
    expect(await findings()).toBe('Table public.beers has 50 rows, but its sidecar says 51.');

    await replace(storage, sidecar, Buffer.from(facts.toString().replace('"sha256": "', '"sha256": "x')));
    expect(await findings()).toMatch(/sidecar is broken at sha256/);

    await replace(
      storage,
      sidecar,
      Buffer.from(facts.toString().replace('"format_version": 1', '"format_version": 2')),
    );
    expect(await findings()).toMatch(/newer version/);
  });

  it('says that it cannot look when the storage fails, which is no damage', async () => {
    await using source = await smallDatabase();
    const storage = new SimulatedStorage();
    const folder = new PlainFolder(storage.client('writer'));
    const backup = await backUp(folder, source);
    const failing = new PlainFolder(
      storage.client('reader', { faults: [{ at: ({ kind }) => kind === 'get', effect: 'cut', bytes: 100 }] }),
    );
    await expect(failing.verify(backup, postgres, NO_AGE_KEYS, signal)).rejects.toSatisfy(
      (error) => !isCellarError(error, 'damaged'),
    );
  });
});

describe('finding a plain backup', () => {
  it('takes file names, unique beginnings, latest, and the latest of a database', async () => {
    const storage = createMemoryStorage();
    const folder = new PlainFolder(storage);
    await put(storage, 'shop_backup_20240101_000000.sql.gz', 'x');
    await put(storage, 'shop_backup_20240102_000000.sql.gz', 'x');
    await put(storage, 'my_shop_backup_20240103_000000.sql.zst.age', 'x');
    await put(storage, 'shop_backup_20240102_000000.sql.json', '{"database_name": "shop_db"}');
    const found = async (reference: string) => (await folder.find(reference, signal)).name.fileName;
    expect(await found('shop_backup_20240101_000000.sql.gz')).toBe('shop_backup_20240101_000000.sql.gz');
    expect(await found('shop_backup_20240101')).toBe('shop_backup_20240101_000000.sql.gz');
    expect(await found('my')).toBe('my_shop_backup_20240103_000000.sql.zst.age');
    expect(await found('latest')).toBe('my_shop_backup_20240103_000000.sql.zst.age');
    expect(await found('shop_db@latest')).toBe('shop_backup_20240102_000000.sql.gz');
    expect(await found('shop@latest')).toBe('shop_backup_20240102_000000.sql.gz');
    expect(prefixFor('my_shop_db')).toBe('my_shop');
    expect(await found('my_shop_db@latest')).toBe('my_shop_backup_20240103_000000.sql.zst.age');
    await expect(found('shop')).rejects.toSatisfy((error) => isCellarError(error, 'conflict'));
    for (const absent of ['', 'stock', 'stock@latest', '../shop_backup_20240101_000000.sql.gz']) {
      await expect(found(absent)).rejects.toThrow(/not found/);
    }
  });
});

describe('reservations', () => {
  it('that a crashed writer left stay in nobody’s way, and go after a week', async () => {
    await using source = await smallDatabase();
    const path = await mkdtemp(join(tmpdir(), 'cellar-plain-'));
    try {
      const folder = new PlainFolder(await openLocalStorage(path));
      await writeFile(join(path, 'hoppybrew_backup_20241108_120000.writing'), '');
      const now = new Date();
      await backUp(folder, source, { now });
      expect(await names(folder.storage)).toContain('hoppybrew_backup_20241108_120000.writing');
      await backUp(folder, source, { now: new Date(now.getTime() + 8 * 24 * 3600 * 1000) });
      expect((await names(folder.storage)).filter((name) => name.endsWith('.writing'))).toEqual([]);
    } finally {
      await rm(path, { recursive: true });
    }
  });
});
