/**
 * Makes the archives in `fixtures/archives` anew, one per major version that is found: what each version's own pg_dump writes to a
 * pipe for the database of `source.sql`; from the newest also what it writes to a file of its own, to a redirected one, and of a LATIN1 database.
 *
 * Run it with CELLAR_TEST_POSTGRES_BIN naming the servers that `scripts/postgres-majors.ts` has fetched.
 */
import { execFile, spawnSync } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Cluster, installedServers, startCluster } from '../packages/core/src/testing/postgres-cluster.ts';

const FOLDER = fileURLToPath(new URL('../fixtures/archives/', import.meta.url));
const run = promisify(execFile);

/** @param file where pg_dump writes by itself, into a file it can seek in; without it through a pipe. */
async function dump(cluster: Cluster, database: string, file?: string): Promise<Buffer> {
  const args = ['-Fc', '-Z0', ...(file === undefined ? [] : [`--file=${file}`]), database];
  const { stdout } = await run(join(cluster.binaries, 'pg_dump'), args, {
    env: { ...cluster.environment(), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' },
    encoding: 'buffer',
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

const [newest] = await installedServers();
for (const { major } of await installedServers()) {
  await using cluster = await startCluster({ major });
  const database = await cluster.createDatabase('source');
  await cluster.psqlFile(join(FOLDER, 'source.sql'), database);
  await writeFile(join(FOLDER, `pipe-${major}.dump`), await dump(cluster, database));
  console.log(`PostgreSQL ${major}: captured`);
  if (major !== newest?.major) continue;
  await dump(cluster, database, join(FOLDER, `file-${major}.dump`));
  await using redirected = await open(join(FOLDER, `redirected-${major}.dump`), 'w');
  spawnSync(join(cluster.binaries, 'pg_dump'), ['-Fc', '-Z0', database], {
    env: cluster.environment(),
    stdio: ['ignore', redirected.fd, 'inherit'],
  });
  const latin = await cluster.createDatabase('latin', { clauses: `ENCODING 'LATIN1' LOCALE 'C'` });
  await cluster.psql(
    `SET client_encoding = 'UTF8'; CREATE TABLE "grün" (a text); INSERT INTO "grün" VALUES ('Größe');`,
    latin,
  );
  await writeFile(join(FOLDER, `latin1-${major}.dump`), await dump(cluster, latin));
}
