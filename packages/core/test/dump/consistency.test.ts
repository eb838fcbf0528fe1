import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseRowsLocator } from '../../src/engine/postgres/locator.ts';
import { parseDetails } from '../../src/engine/postgres/source-facts.ts';
import { connectCluster, freePort, startCluster } from '../../src/testing/postgres-cluster.ts';
import { testDatabase } from '../harness/databases.ts';
import { type CollectedDump, cutsTables, dumpOptions, dumpWhole, SMALLEST_PIECES } from './collect-dump.ts';
import { session, waitUntil } from './sessions.ts';

const TABLES = 6;
const ROWS = 400;

function total({ bytes }: CollectedDump): number {
  let sum = 0;
  for (const [name, rows] of bytes) {
    if (!name.startsWith('public.account')) continue;
    for (const line of rows.toString().split('\n')) if (line !== '') sum += Number(line.split('\t')[1]);
  }
  return sum;
}

describe('a dump while others write', () => {
  it('has the money of one moment, however it is moved between rows and tables', async () => {
    await using database = await testDatabase();
    const tables = Array.from({ length: TABLES }, (_, index) => `account_${index}`);
    await database.cluster.psql(
      tables
        .map(
          (name) =>
            `CREATE TABLE ${name} (id int PRIMARY KEY, money int, padding text); INSERT INTO ${name} SELECT n, 1000, repeat('x', 200) FROM generate_series(1, ${ROWS}) n;`,
        )
        .join('\n'),
      database.name,
    );
    let stopped = false;
    let transfers = 0;
    const writers = [1, 2, 3].map(async (seed) => {
      await using other = await session(database);
      for (let turn = seed; !stopped; turn += 7) {
        const [from, to] = [`account_${turn % TABLES}`, `account_${(turn * 5 + 1) % TABLES}`];
        await other
          .query(
            `BEGIN; UPDATE ${from} SET money = money - 7 WHERE id = ${1 + (turn % ROWS)}; UPDATE ${to} SET money = money + 7 WHERE id = ${1 + ((turn * 3) % ROWS)}; COMMIT`,
          )
          .then(
            () => transfers++,
            () => other.query('ROLLBACK'),
          );
      }
    });
    try {
      for (let round = 0; round < 8; round++) {
        const before = transfers;
        const sizes = round % 2 === 0 ? SMALLEST_PIECES : { ...SMALLEST_PIECES, copyFromBytes: 120_000 };
        expect(total(await dumpWhole(database.url, dumpOptions({ jobs: 4 }), sizes))).toBe(TABLES * ROWS * 1000);
        expect(transfers).toBeGreaterThan(before);
      }
    } finally {
      stopped = true;
      await Promise.all(writers);
    }
  });

  it('takes a table of another access method in one piece', async () => {
    await using database = await testDatabase();
    await database.cluster.psql(
      "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE t (n int, x text) USING other_heap; INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n; CREATE TABLE u AS TABLE t",
      database.name,
    );
    const { segments, entries } = await dumpWhole(database.url, dumpOptions(), SMALLEST_PIECES);
    expect(segments.get('public.t')).toBe(1);
    expect((segments.get('public.u') ?? 0) > 50).toBe(cutsTables(database.cluster));
    expect(
      entries.filter(({ kind }) => kind === 'rows').map((entry) => [entry.rows, parseRowsLocator(entry).from]),
    ).toEqual([
      [5000, 'copy'],
      [5000, 'copy'],
    ]);
  });
});

describe('a dump of a standby', () => {
  it('is whole but for unlogged rows, and says so', async () => {
    await using primary = await startCluster({ settings: { wal_level: 'replica' } });
    await primary.psql(
      'CREATE TABLE t AS SELECT generate_series(1, 5000) n; CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n; CREATE TABLE small AS SELECT 1 AS n',
    );
    const { uid, gid } = await stat(primary.folder);
    const folder = await mkdtemp(join(tmpdir(), 'cellar-standby-'));
    const port = await freePort();
    const environment = { ...primary.environment(), LC_ALL: 'C' };
    // Reachable for the server's own user, as the primary's folder is.
    const asServer = (command: string, args: readonly string[]) =>
      spawn(join(primary.binaries, command), [...args], { env: environment, stdio: 'ignore', cwd: '/', uid, gid });
    await chown(folder, uid, gid);
    const [code] = await once(
      asServer('pg_basebackup', ['-D', join(folder, 'data'), '-R', '--checkpoint=fast', '--no-sync']),
      'exit',
    );
    expect(code).toBe(0);
    const server = asServer('postgres', [
      '-D',
      join(folder, 'data'),
      `--port=${port}`,
      `--unix_socket_directories=${folder}`,
    ]);
    const ended = once(server, 'exit');
    try {
      const standby = connectCluster({
        major: primary.major,
        binaries: primary.binaries,
        folder,
        port,
        password: primary.password,
      });
      await waitUntil(
        async () =>
          await standby.query('SELECT 1').then(
            () => true,
            () => false,
          ),
      );
      const dump = await dumpWhole(standby.url(), dumpOptions({ globals: true }), SMALLEST_PIECES);
      expect(dump.entries.map(({ name, rows }) => [name, rows])).toEqual([
        ['globals', undefined],
        ['schema', undefined],
        ['public.small', 1],
        ['public.t', 5000],
      ]);
      expect(parseDetails(dump.source).standby).toBe(true);
      expect(dump.source.warnings).toEqual([expect.stringContaining('1 unlogged table')]);
    } finally {
      server.kill('SIGQUIT');
      await ended;
      await rm(folder, { recursive: true, force: true });
    }
  });
});
