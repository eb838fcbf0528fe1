import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sharedCluster, type TestDatabase, testDatabase } from '../../../test/harness/databases.ts';
import { CellarError } from '../../errors.ts';
import { type Connection, connect } from './connection.ts';
import { copyIn } from './copy-in.ts';
import { parseTarget } from './target.ts';

const signal = new AbortController().signal;
const OPTIONS = { title: 'public.t', stallTimeoutMs: 20_000 };
const STATEMENT = Buffer.from('COPY public.t (a, b) FROM stdin;\n');

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase('empty');
  await database.cluster.psql('CREATE TABLE t (a int, b text)', database.name);
});
afterAll(async () => await database[Symbol.asyncDispose]());

async function open(): Promise<Connection> {
  return await connect(parseTarget(database.url), signal);
}

/** Pieces of all sizes, each overwritten once the next is asked for. */
async function* pieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let start = 0, index = 0; start < bytes.length; index++) {
    const piece = Buffer.from(bytes.subarray(start, start + (sizes[index % sizes.length] ?? 1)));
    start += piece.length;
    yield piece;
    piece.fill(0x7a);
  }
}

describe('copyIn', () => {
  it.each([[[1]], [[131_072]], [[7, 100_000, 300_001]], [[5_000_000]]])(
    'loads rows in pieces of %j bytes, and counts them',
    async (sizes) => {
      const rows = sizes[0] === 1 ? 2_000 : 60_000;
      const text = Buffer.from(Array.from({ length: rows }, (_, n) => `${n}\t${'x'.repeat(n % 50)}\\n\n`).join(''));
      await using connection = await open();
      await connection.query('TRUNCATE t', 'empty the table');
      expect(await copyIn(connection, STATEMENT, pieces(text, sizes), OPTIONS, signal)).toBe(rows);
      const [found] = await connection.query('SELECT count(*) AS n, sum(a) AS s, sum(length(b)) AS l FROM t', 'look');
      const lengths = Array.from({ length: rows }, (_, n) => (n % 50) + 1).reduce((sum, length) => sum + length, 0);
      expect(found).toEqual({ n: String(rows), s: String((rows * (rows - 1)) / 2), l: String(lengths) });
    },
  );

  it('loads one row of 60 MB', async () => {
    await using connection = await open();
    await connection.query('TRUNCATE t', 'empty the table');
    const row = Buffer.alloc(60_000_000, 'y');
    row.write('1\t');
    row.write('\n', row.length - 1);
    expect(await copyIn(connection, STATEMENT, pieces(row, [65_536]), OPTIONS, signal)).toBe(1);
    expect(await connection.query('SELECT length(b) AS l FROM t', 'look')).toEqual([{ l: String(row.length - 3) }]);
  });

  it('throws what the server says of a bad row, mid-stream, and leaves the connection usable', async () => {
    await using connection = await open();
    await connection.query('TRUNCATE t', 'empty the table');
    const text = Buffer.from(`1\ta\n${'2\tb\n'.repeat(200_000)}x\tc\n${'3\td\n'.repeat(200_000)}`);
    await expect(copyIn(connection, STATEMENT, pieces(text, [50_000]), OPTIONS, signal)).rejects.toMatchObject({
      code: 'database-failed',
      message: expect.stringMatching(/load public\.t: invalid input syntax for type integer: "x"/),
    });
    expect(await connection.query('SELECT count(*) AS n FROM t', 'look')).toEqual([{ n: '0' }]);
  });

  it('throws what the source says, keeps nothing, and leaves the connection usable', async () => {
    await using connection = await open();
    await connection.query('TRUNCATE t', 'empty the table');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('1\ta\n'.repeat(100_000));
      throw new CellarError('damaged', 'Pack 7 is not what was written.');
    }
    await expect(copyIn(connection, STATEMENT, failing(), OPTIONS, signal)).rejects.toMatchObject({ code: 'damaged' });
    expect(await connection.query('SELECT count(*) AS n FROM t', 'look')).toEqual([{ n: '0' }]);
  });

  it('gives up when the server takes nothing for the stall limit: the table is locked', async () => {
    await using holder = await open();
    await holder.query('BEGIN; LOCK TABLE t', 'lock the table');
    await using connection = await open();
    await expect(
      copyIn(connection, STATEMENT, pieces(Buffer.from('1\ta\n'), [4]), { ...OPTIONS, stallTimeoutMs: 300 }, signal),
    ).rejects.toMatchObject({ code: 'stalled', retryable: true });
  });

  it('throws the cancellation when its signal is aborted mid-stream', async () => {
    const abort = new AbortController();
    await using connection = await connect(parseTarget(database.url), abort.signal);
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let sent = 0; ; sent++) {
        if (sent === 10) abort.abort();
        yield Buffer.from('1\ta\n'.repeat(50_000));
      }
    }
    await expect(copyIn(connection, STATEMENT, endless(), OPTIONS, abort.signal)).rejects.toMatchObject({
      code: 'cancelled',
    });
  });

  it('tells that the server ended the session, not just of a broken pipe', async () => {
    await using connection = await open();
    async function* killing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('1\ta\n'.repeat(50_000));
      await sharedCluster().query(`SELECT pg_terminate_backend(${connection.backendId})`);
      for (;;) yield Buffer.from('1\ta\n'.repeat(50_000));
    }
    await expect(copyIn(connection, STATEMENT, killing(), OPTIONS, signal)).rejects.toMatchObject({
      code: 'database-failed',
    });
  });

  it('refuses a statement that takes no rows', async () => {
    await using connection = await open();
    await expect(
      copyIn(connection, Buffer.from('SELECT 1'), pieces(Buffer.from('1\n'), [2]), OPTIONS, signal),
    ).rejects.toThrow(/COPY/);
  });
});
