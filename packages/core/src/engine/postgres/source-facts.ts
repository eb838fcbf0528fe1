/**
 * What a dump of a database does not carry, and a restore, a swap or a person needs: the database's own owner, privileges, settings and
 * locale; and what pg_dump leaves out in silence, as warnings.
 */
import { z } from 'zod';
import { CellarError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import type { SourceFacts } from '../engine.ts';
import type { Connection } from './connection.ts';
import type { Tool } from './tools.ts';

const details = z.object({
  owner: z.string(),
  /** Items of `datacl` in their text form (`role=CTc/grantor`); null: the default privileges. */
  acl: z.array(z.string()).nullable(),
  comment: z.string().nullable(),
  /** -1: no limit. */
  connectionLimit: z.int(),
  allowConnections: z.boolean(),
  isTemplate: z.boolean(),
  tablespace: z.string(),
  /** Of `ALTER DATABASE … SET` (role null) and `ALTER ROLE … IN DATABASE … SET`, each as `name=value`. */
  settings: z.array(z.object({ role: z.string().nullable(), settings: z.array(z.string()) })),
  /** `libc`, `icu` or `builtin`. */
  localeProvider: z.enum(['libc', 'icu', 'builtin']),
  /** Of the providers other than libc. */
  locale: z.string().nullable(),
  icuRules: z.string().nullable(),
  collationVersion: z.string().nullable(),
  /** The source was a standby: unlogged tables have no rows there. */
  standby: z.boolean(),
  preparedTransactions: z.array(z.string()),
  replicationSlots: z.array(z.object({ name: z.string(), type: z.string(), active: z.boolean() })),
  publications: z.array(z.string()),
  subscriptions: z.array(z.string()),
  /** The user that the facts were read as. */
  user: z.string(),
  superuser: z.boolean(),
});

export type PostgresDetails = Readonly<z.infer<typeof details>>;

/** `source.details` of a stored backup. Throws `damaged` when they are not those of a PostgreSQL source. */
export function parseDetails(source: SourceFacts): PostgresDetails {
  const result = details.safeParse(source.details);
  if (result.success) return result.data;
  throw new CellarError('damaged', 'The backup does not say what its database was.', { cause: result.error });
}

export interface FactsRead {
  readonly source: SourceFacts;
  readonly details: PostgresDetails;
  readonly superuser: boolean;
  readonly databaseBytes: number;
  readonly largeObjectBytes: number;
  readonly unreadableLargeObjects: number;
  /** Unlogged tables, whose rows a standby does not have. */
  readonly unloggedTables: number;
}

/** Within the coordinator's transaction, or any other. */
export async function readSourceFacts(connection: Connection, tools: readonly Tool[]): Promise<FactsRead> {
  const [row] = await connection.query(factsQuery(connection.serverMajor), 'read the facts of the database');
  const extensionRows = await connection.query(
    `SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema
     FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname COLLATE "C"`,
    'list the extensions',
  );
  const superuser = row?.['superuser'] === 't';
  const read = details.parse({
    owner: row?.['owner'],
    acl: json(row?.['acl']),
    comment: row?.['comment'],
    connectionLimit: Number(row?.['connection_limit']),
    allowConnections: row?.['allow_connections'] === 't',
    isTemplate: row?.['is_template'] === 't',
    tablespace: row?.['tablespace'],
    settings: json(row?.['settings']) ?? [],
    localeProvider: provider(row?.['locale_provider']),
    locale: row?.['locale'],
    icuRules: row?.['icu_rules'],
    collationVersion: row?.['collation_version'],
    standby: row?.['standby'] === 't',
    preparedTransactions: json(row?.['prepared_transactions']) ?? [],
    replicationSlots: json(row?.['replication_slots']) ?? [],
    publications: json(row?.['publications']) ?? [],
    subscriptions: json(row?.['subscriptions']) ?? [],
    user: row?.['user_name'],
    superuser,
  });
  const unloggedTables = Number(row?.['unlogged_tables']);
  const { target } = connection;
  return {
    source: {
      engine: 'postgres',
      serverVersion: connection.serverVersion,
      serverMajor: connection.serverMajor,
      database: target.database,
      host: target.host,
      port: target.port,
      encoding: row?.['encoding'] ?? '',
      collate: row?.['lc_collate'] ?? '',
      ctype: row?.['lc_ctype'] ?? '',
      extensions: extensionRows.map((extension) => ({
        name: extension['name'] ?? '',
        version: extension['version'] ?? '',
        schema: extension['schema'] ?? '',
      })),
      tools: Object.fromEntries(tools.map(({ name, version }) => [name, version])),
      schemaDigest: '',
      warnings: warningsOf(read, unloggedTables),
      details: read as Json,
    },
    details: read,
    superuser,
    databaseBytes: Number(row?.['database_bytes']),
    largeObjectBytes: Number(row?.['large_object_bytes']),
    unreadableLargeObjects: Number(row?.['unreadable_large_objects']),
    unloggedTables,
  };
}

function warningsOf(facts: PostgresDetails, unloggedTables: number): readonly string[] {
  const warnings: string[] = [];
  if (facts.standby && unloggedTables > 0) {
    warnings.push(
      `The server is a standby: the rows of ${unloggedTables} unlogged ${unloggedTables === 1 ? 'table are' : 'tables are'} not there and not in the backup.`,
    );
  }
  if (facts.preparedTransactions.length > 0) {
    warnings.push(
      `Prepared transactions are open (${facts.preparedTransactions.join(', ')}): what they did is not in the backup until they are committed.`,
    );
  }
  if (!facts.superuser && facts.subscriptions.length > 0) {
    warnings.push(
      `Subscriptions are not in the backup, since only a superuser may read them: ${facts.subscriptions.join(', ')}.`,
    );
  }
  return warnings;
}

/** Columns came with majors: locale providers 15, ICU rules 16, `datlocale` for `daticulocale` 17. */
function factsQuery(major: number): string {
  const locale = major >= 17 ? 'd.datlocale' : major >= 15 ? 'd.daticulocale' : 'NULL';
  return `
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner,
  (SELECT pg_catalog.json_agg(item::text) FROM pg_catalog.unnest(d.datacl) item)::text AS acl,
  pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
  d.datconnlimit AS connection_limit, d.datallowconn AS allow_connections, d.datistemplate AS is_template,
  t.spcname AS tablespace,
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'role', CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END, 'settings', s.setconfig) ORDER BY s.setrole)
    FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid)::text AS settings,
  pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
  d.datcollate AS lc_collate, d.datctype AS lc_ctype,
  ${major >= 15 ? 'd.datlocprovider' : "'c'"} AS locale_provider, ${locale} AS locale,
  ${major >= 16 ? 'd.daticurules' : 'NULL'} AS icu_rules, ${major >= 15 ? 'd.datcollversion' : 'NULL'} AS collation_version,
  pg_catalog.pg_is_in_recovery() AS standby,
  (SELECT pg_catalog.json_agg(gid ORDER BY gid) FROM pg_catalog.pg_prepared_xacts x WHERE x.database = d.datname)::text AS prepared_transactions,
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', r.slot_name, 'type', r.slot_type, 'active', r.active) ORDER BY r.slot_name)
    FROM pg_catalog.pg_replication_slots r WHERE r.database = d.datname)::text AS replication_slots,
  (SELECT pg_catalog.json_agg(pubname ORDER BY pubname) FROM pg_catalog.pg_publication)::text AS publications,
  (SELECT pg_catalog.json_agg(subname ORDER BY subname) FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid)::text AS subscriptions,
  current_user AS user_name, (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
  pg_catalog.pg_database_size(d.oid) AS database_bytes,
  pg_catalog.pg_table_size('pg_catalog.pg_largeobject') AS large_object_bytes,
  (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata l
    WHERE NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE') AND NOT EXISTS (
      SELECT FROM pg_catalog.aclexplode(l.lomacl) a
      WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))) AS unreadable_large_objects,
  (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relpersistence = 'u') AS unlogged_tables
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = pg_catalog.current_database()`;
}

function json(text: string | null | undefined): unknown {
  return text === null || text === undefined ? null : JSON.parse(text);
}

function provider(letter: string | null | undefined): string {
  switch (letter) {
    case 'i':
      return 'icu';
    case 'b':
      return 'builtin';
    default:
      return 'libc';
  }
}
