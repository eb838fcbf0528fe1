import { execFile } from 'node:child_process';
import { chown, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, toolEnvironment } from '../../src/engine/postgres/connection.ts';
import { parseTarget } from '../../src/engine/postgres/target.ts';
import { runTool } from '../../src/engine/postgres/tool-process.ts';
import { findTool } from '../../src/engine/postgres/tools.ts';
import { CellarError } from '../../src/errors.ts';
import { type Cluster, freePort, startCluster } from '../../src/testing/postgres-cluster.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { cutsTables, dumpOptions, dumpWhole, SMALLEST_PIECES } from './collect-dump.ts';
import { waitUntil } from './sessions.ts';

const run = promisify(execFile);
const signal = (): AbortSignal => AbortSignal.timeout(30_000);

async function failure(url: string, secret: string): Promise<CellarError> {
  const error = await connect(parseTarget(url), signal()).catch((caught: unknown) => caught);
  if (!(error instanceof CellarError)) throw new Error(`Not refused, or not in Cellar's words: ${String(error)}`);
  expect(error.hint).toBeTruthy();
  expect(`${error.message} ${error.hint} ${JSON.stringify(error.details)}`).not.toContain(secret);
  return error;
}

describe('a connection', () => {
  it('that is refused says why and what to do, without the password', async () => {
    const cluster = sharedCluster();
    const { port } = cluster;
    await cluster.query("CREATE ROLE connection_none LOGIN CONNECTION LIMIT 0 PASSWORD 's3cret'");
    const cases: readonly (readonly [string, string])[] = [
      [`postgres://postgres:s3cret@127.0.0.1:${port}/postgres`, 'database-login'],
      [`postgres://postgres@127.0.0.1:${port}/postgres`, 'database-login'],
      [`postgres://nobody:s3cret@127.0.0.1:${port}/postgres`, 'database-login'],
      [cluster.url('s3cretless'), 'not-found'],
      [cluster.url('postgres', 'connection_none', 's3cret'), 'database-unreachable'],
      [`postgres://u:s3cret@127.0.0.1:${await freePort()}/d`, 'database-unreachable'],
      ['postgres://u:s3cret@no-such-host.invalid/d', 'database-unreachable'],
      ['postgres://u:s3cret@/d?host=/nowhere', 'database-unreachable'],
      [`${cluster.url()}?sslmode=require`, 'database-unreachable'],
      [`${cluster.url()}?sslmode=verify-full&sslrootcert=/nowhere.pem`, 'invalid-input'],
    ];
    for (const [url, code] of cases)
      expect((await failure(url, code === 'not-found' ? cluster.password : 's3cret')).code, url).toBe(code);
    await cluster.query('DROP ROLE connection_none');
  });

  it('to something that never answers, or is no PostgreSQL, is given up', async () => {
    const silent = createServer();
    const babbling = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    try {
      for (const server of [silent, babbling]) {
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        const address = server.address();
        const port = typeof address === 'object' ? address?.port : 0;
        const error = await failure(`postgres://u:s3cret@127.0.0.1:${port}/d?connect_timeout=1`, 's3cret');
        expect(error.code).toBe('database-unreachable');
      }
    } finally {
      silent.close();
      babbling.close();
    }
  });

  it('works for users, passwords and databases with odd characters, over TCP and sockets, for us and for the tools', async () => {
    const cluster = sharedCluster();
    const user = `odd user:@/?#%'"\\ é`;
    const password = `p@ss:w/o?r#d%20 '"\\ 密`;
    const quoted = `"${user.replaceAll('"', '""')}"`;
    await cluster.query(`CREATE ROLE ${quoted} LOGIN PASSWORD '${password.replaceAll("'", "''")}'`);
    const name = await cluster.createDatabase(`odd database=x '" ?&%`, { owner: user });
    try {
      const tool = await findTool('psql', 13, signal());
      for (const url of [cluster.url(name, user, password), cluster.socketUrl(name, user, password)]) {
        const target = parseTarget(url);
        await using connection = await connect(target, signal());
        expect(await connection.query('SELECT current_user AS u, current_database() AS d', 'ask')).toEqual([
          { u: user, d: name },
        ]);
        const args = ['--no-psqlrc', '-Atc', 'SELECT current_user, current_database()'];
        expect(args.join()).not.toContain(password);
        const { output } = await runTool(
          { tool, args, env: toolEnvironment(target), input: false, stallTimeoutMs: 10_000 },
          signal(),
        );
        expect(output.toString()).toBe(`${user}|${name}\n`);
        const dump = await dumpWhole(url, dumpOptions({ globals: true }));
        expect(dump.bytes.get('globals')?.toString()).toContain('CREATE ROLE');
      }
    } finally {
      await cluster.dropDatabase(name);
      await cluster.query(`DROP ROLE ${quoted}`);
    }
  });

  it('is cut by an abort, and a statement of it ends as cancelled', async () => {
    await using database = await testDatabase();
    const controller = new AbortController();
    await using connection = await connect(parseTarget(database.url), controller.signal);
    const sleeping = connection.query('SELECT pg_sleep(100)', 'sleep');
    controller.abort();
    await expect(sleeping).rejects.toMatchObject({ code: 'cancelled' });
    await expect(connect(parseTarget(database.url), controller.signal)).rejects.toMatchObject({ code: 'cancelled' });
    await database.cluster.query(`SELECT pg_terminate_backend(${connection.backendId})`);
  });

  it('tells that it was lost, but not when it was given back', async () => {
    await using database = await testDatabase();
    const lost = await connect(parseTarget(database.url), signal());
    await database.cluster.query(`SELECT pg_terminate_backend(${lost.backendId})`);
    await waitUntil(() => lost.lost.aborted);
    expect(lost.lost.reason).toMatchObject({ code: 'database-failed' });
    await lost[Symbol.asyncDispose]();
    const kept = await connect(parseTarget(database.url), signal());
    await kept[Symbol.asyncDispose]();
    expect(kept.lost.aborted).toBe(false);
    await expect(kept.query('SELECT 1', 'ask')).rejects.toMatchObject({ code: 'database-failed' });
  });
});

describe('an encrypted connection', () => {
  let cluster: Cluster;
  let folder: string;
  beforeAll(async () => {
    cluster = await startCluster();
    folder = await mkdtemp(join(tmpdir(), 'cellar-tls-'));
    const { uid, gid } = await stat(cluster.folder);
    for (const name of ['server', 'stranger']) {
      const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)];
      await run('openssl', [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=DNS:localhost',
        ...files,
      ]);
      for (const end of ['key', 'crt']) await chown(join(folder, `${name}.${end}`), uid, gid);
    }
    await chown(folder, uid, gid);
    for (const setting of [
      `ssl_cert_file = '${folder}/server.crt'`,
      `ssl_key_file = '${folder}/server.key'`,
      'ssl = on',
    ]) {
      await cluster.query(`ALTER SYSTEM SET ${setting}`);
    }
    await cluster.query('SELECT pg_reload_conf()');
    await waitUntil(
      async () =>
        await connect(parseTarget(`${cluster.url()}?sslmode=require`), signal()).then(
          (connection) => connection[Symbol.asyncDispose]().then(() => true),
          () => false,
        ),
    );
  });
  afterAll(async () => {
    await cluster?.stop();
    if (folder !== undefined) await rm(folder, { recursive: true });
  });

  const urlWith = (host: string, parameters: string): string =>
    `${cluster.url().replace('127.0.0.1', host)}?${parameters}`;

  it('is trusted as far as sslmode asks for it', async () => {
    const ca = `sslrootcert=${encodeURIComponent(join(folder, 'server.crt'))}`;
    const stranger = `sslrootcert=${encodeURIComponent(join(folder, 'stranger.crt'))}`;
    for (const [host, parameters] of [
      ['localhost', `sslmode=verify-full&${ca}`],
      ['127.0.0.1', `sslmode=verify-ca&${ca}`],
      ['127.0.0.1', 'sslmode=require'],
      ['127.0.0.1', 'sslmode=prefer'],
    ] as const) {
      await using connection = await connect(parseTarget(urlWith(host, parameters)), signal());
      const rows = await connection.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', 'ask');
      expect(rows, parameters).toEqual([{ ssl: 't' }]);
    }
    for (const [host, parameters] of [
      ['127.0.0.1', `sslmode=verify-full&${ca}`],
      ['localhost', `sslmode=verify-full&${stranger}`],
      ['localhost', `sslmode=verify-ca&${stranger}`],
      ['localhost', `sslmode=require&${stranger}`],
    ] as const) {
      expect((await failure(urlWith(host, parameters), cluster.password)).code, parameters).toBe(
        'database-unreachable',
      );
    }
    await using plain = await connect(parseTarget(cluster.url()), signal());
    expect(await plain.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', 'ask')).toEqual([
      { ssl: 'f' },
    ]);
  });

  it('carries the same dump as an open one', async () => {
    const name = await cluster.createDatabase();
    await cluster.psql(
      'CREATE TABLE t AS SELECT n, repeat(md5(n::text), 1 + n % 9) FROM generate_series(1, 60000) n',
      name,
    );
    const open = await dumpWhole(`${cluster.url(name)}?sslmode=disable`, dumpOptions(), {
      ...SMALLEST_PIECES,
      segmentBytes: 1 << 20,
    });
    const encrypted = await dumpWhole(`${cluster.url(name)}?sslmode=require`, dumpOptions(), {
      ...SMALLEST_PIECES,
      segmentBytes: 1 << 20,
    });
    expect((encrypted.segments.get('public.t') ?? 0) > 3).toBe(cutsTables(cluster));
    expect(encrypted.bytes.get('public.t')?.equals(open.bytes.get('public.t') ?? Buffer.alloc(0))).toBe(true);
    expect(encrypted.entries.find(({ name: entry }) => entry === 'public.t')?.rows).toBe(60_000);
    expect((await readFile(join(folder, 'server.crt'), 'utf8')).startsWith('-----BEGIN')).toBe(true);
  });

  it('is used when the server lets nobody in without it, though nothing was asked for', async () => {
    const hba = (await cluster.query<{ file: string }>("SELECT current_setting('hba_file') AS file"))[0]?.file ?? '';
    const before = await readFile(hba, 'utf8');
    await cluster.query(
      `COPY (SELECT 'local all all scram-sha-256' UNION ALL SELECT 'hostssl all all 127.0.0.1/32 scram-sha-256') TO '${hba}'`,
    );
    await cluster.query('SELECT pg_reload_conf()');
    await waitUntil(
      async () =>
        await connect(parseTarget(`${cluster.url()}?sslmode=disable`), signal()).then(
          (connection) => connection[Symbol.asyncDispose]().then(() => false),
          () => true,
        ),
    );
    await using connection = await connect(parseTarget(cluster.url()), signal());
    expect(await connection.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', 'ask')).toEqual([
      { ssl: 't' },
    ]);
    expect(before).not.toBe('');
  });
});
