import { describe, expect, it } from 'vitest';
import { testDatabase } from '../../../test/harness/databases.ts';
import { connect } from './connection.ts';
import { watchForLocks } from './restore-watch.ts';
import { parseTarget } from './target.ts';

const signal = new AbortController().signal;

describe('the watchdog of silent work', () => {
  it('aborts with the session that holds the lock, when one has been waited for too long', async () => {
    await using database = await testDatabase('empty');
    await database.cluster.psql('CREATE TABLE t (a int)', database.name);
    const target = parseTarget(database.url);
    await using holder = await connect(target, signal);
    await holder.query('BEGIN; LOCK TABLE t', 'lock the table');
    await using watch = await watchForLocks(target, 400, signal);
    await using waiter = await connect(target, watch.signal);
    await expect(waiter.query('SELECT * FROM t', 'wait')).rejects.toMatchObject({
      code: 'stalled',
      message: expect.stringContaining(String(holder.backendId)),
    });
  });

  it('lets long work go on that waits for nobody', async () => {
    await using database = await testDatabase('empty');
    const target = parseTarget(database.url);
    await using watch = await watchForLocks(target, 200, signal);
    await using worker = await connect(target, watch.signal);
    await worker.query('SELECT pg_sleep(1)', 'work');
    expect(watch.signal.aborted).toBe(false);
  });
});
