/** Other people's sessions beside a dump, and waiting for conditions. */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { TestDatabase } from '../harness/databases.ts';

export interface OtherSession extends AsyncDisposable {
  readonly pid: number;
  query(sql: string): Promise<unknown>;
}

export async function session(database: TestDatabase): Promise<OtherSession> {
  const client = new pg.Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
  return {
    pid: Number(rows[0].pid),
    query: async (sql) => await client.query(sql),
    [Symbol.asyncDispose]: async () => await client.end(),
  };
}

/** Fails after ten seconds. */
export async function waitUntil(condition: () => Promise<boolean> | boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; ) {
    if (await condition()) return;
    await delay(20);
  }
  throw new Error('What was waited for did not happen within ten seconds.');
}
