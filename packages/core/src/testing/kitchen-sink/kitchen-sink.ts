/**
 * A database that has at least one of everything that pg_dump covers. It proves that a backup gives back the whole of a database:
 * see `compare-databases.ts`. The SQL lies beside this file, by topic, and loads on PostgreSQL 13 and later.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import type { ClusterHandle } from '../postgres-cluster.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

/**
 * Fills an empty database of a cluster that was started with `extensionFiles: KITCHEN_SINK_EXTENSION_FILES`. The roles it needs are
 * made in the cluster, prefixed `ks`, and stay there.
 */
export async function createKitchenSink(cluster: ClusterHandle, database: string): Promise<void> {
  const topics = (await readdir(FOLDER)).filter((name) => name.endsWith('.sql')).sort();
  for (const topic of topics) await cluster.psqlFile(join(FOLDER, topic), database);
  await setKitchenSinkDatabaseProperties(cluster, database);
}

/**
 * What belongs to the database itself and is not part of its dump: owner, comment, privileges, limit, settings. The settings are
 * those that change how values are written: a dump that does not set its own is wrong here.
 */
export async function setKitchenSinkDatabaseProperties(cluster: ClusterHandle, database: string): Promise<void> {
  const name = pg.escapeIdentifier(database);
  await cluster.psql(
    `ALTER DATABASE ${name} OWNER TO ks_owner;
     COMMENT ON DATABASE ${name} IS 'The kitchen sink: it''s all here';
     ALTER DATABASE ${name} CONNECTION LIMIT 50;
     REVOKE CONNECT, TEMPORARY ON DATABASE ${name} FROM PUBLIC;
     GRANT CONNECT ON DATABASE ${name} TO ks_reader, "ks Odd ""Rôle";
     ALTER DATABASE ${name} SET datestyle = 'German, DMY';
     ALTER DATABASE ${name} SET intervalstyle = 'sql_standard';
     ALTER DATABASE ${name} SET timezone = 'Asia/Kathmandu';
     ALTER DATABASE ${name} SET bytea_output = 'escape';
     ALTER DATABASE ${name} SET extra_float_digits = '-5';
     ALTER DATABASE ${name} SET search_path = sales, "Sales Dept.", public;
     ALTER DATABASE ${name} SET xmloption = 'content';
     ALTER ROLE ks_reader IN DATABASE ${name} SET work_mem = '3MB';`,
    'postgres',
  );
}
