/**
 * SQL that empties a database within the caller's transaction, until it is as template0 made it: for restores in place. Order matters:
 * event triggers first, or they fire on all that follows; extensions before the schemas they are in; `public` is made anew.
 * `pg_restore --clean` cannot do this: it fails on partitioned tables with a key and on foreign keys, and leaves what was added.
 */
import { CellarError } from '../../errors.ts';
import type { Connection } from './connection.ts';

/** Objects made by initdb have lower oids (access/transam.h); they belong to every database. */
const FIRST_USER_OID = 16384;

/** Each query gives statements, all of which are run before the next is asked: what went with a CASCADE is gone from the catalog by then. */
const DROPS: readonly string[] = [
  `SELECT format('DROP EVENT TRIGGER %I CASCADE', evtname) FROM pg_event_trigger`,
  `SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication`,
  // Members of extensions go with them; what initdb installed (plpgsql) stays.
  `SELECT format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_extension WHERE oid >= ${FIRST_USER_OID}`,
  `SELECT format('DROP FOREIGN DATA WRAPPER IF EXISTS %I CASCADE', fdwname) FROM pg_foreign_data_wrapper WHERE oid >= ${FIRST_USER_OID}`,
  // Before casts and the like: those that a type of a schema made for itself go with it, and only so.
  `SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY nspname`,
  `SELECT format('DROP CAST IF EXISTS (%s AS %s) CASCADE', format_type(castsource, NULL), format_type(casttarget, NULL))
     FROM pg_cast WHERE oid >= ${FIRST_USER_OID}`,
  `SELECT format('DROP TRANSFORM IF EXISTS FOR %s LANGUAGE %I CASCADE', format_type(trftype, NULL), lanname)
     FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang WHERE t.oid >= ${FIRST_USER_OID}`,
  `SELECT format('DROP LANGUAGE IF EXISTS %I CASCADE', lanname) FROM pg_language WHERE oid >= ${FIRST_USER_OID}`,
  `SELECT format('DROP ACCESS METHOD IF EXISTS %I CASCADE', amname) FROM pg_am WHERE oid >= ${FIRST_USER_OID}`,
  ...defaultPrivileges(),
];

/**
 * Default privileges of no schema go back to what the server assumes, and then are gone: all is revoked from everybody, and the owner's
 * and PUBLIC's usual ones granted. (Those of a schema went with it.)
 */
function defaultPrivileges(): readonly string[] {
  const kind = `CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
    WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END`;
  const start = `format('ALTER DEFAULT PRIVILEGES FOR ROLE %I ', pg_get_userbyid(d.defaclrole))`;
  return [
    `SELECT ${start} || 'REVOKE ALL ON ' || ${kind} || ' FROM ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
       FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE d.defaclnamespace = 0 AND a.grantee <> d.defaclrole
      GROUP BY d.defaclrole, d.defaclobjtype, a.grantee`,
    `SELECT unnest(ARRAY[${start} || 'GRANT ALL ON ' || ${kind} || ' TO ' || quote_ident(pg_get_userbyid(d.defaclrole)),
            CASE d.defaclobjtype WHEN 'f' THEN ${start} || 'GRANT EXECUTE ON FUNCTIONS TO PUBLIC'
                                 WHEN 'T' THEN ${start} || 'GRANT USAGE ON TYPES TO PUBLIC' END])
       FROM pg_default_acl d WHERE d.defaclnamespace = 0`,
  ];
}

/** As one script without psql commands, for a server of that major. Names stay the server's own; the text is ASCII. */
export function emptyDatabaseScript(serverMajor: number): string {
  const loops = DROPS.map(
    (query) => `FOR statement IN ${query} LOOP IF statement IS NOT NULL THEN EXECUTE statement; END IF; END LOOP;`,
  );
  // As initdb makes it: owned by the database's owner from 15 on, and since then without CREATE for everybody.
  const since15 = serverMajor >= 15;
  return [
    `DO $cellar_empty$\nDECLARE statement text;\nBEGIN\n${loops.join('\n')}\nEND\n$cellar_empty$`,
    UNLINK_LARGE_OBJECTS,
    `CREATE SCHEMA public${since15 ? ' AUTHORIZATION pg_database_owner' : ''}`,
    `GRANT ${since15 ? 'USAGE' : 'USAGE, CREATE'} ON SCHEMA public TO PUBLIC`,
    `COMMENT ON SCHEMA public IS 'standard public schema'`,
    '',
  ].join(';\n');
}

const UNLINK_LARGE_OBJECTS = 'SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata';

/** Throws `conflict` for what a transaction cannot remove, and `database-privilege` where this user may not. */
export async function emptyDatabase(connection: Connection): Promise<void> {
  await refuseSubscriptions(connection);
  await connection.query(emptyDatabaseScript(connection.serverMajor), 'empty the database');
}

export async function dropLargeObjects(connection: Connection): Promise<void> {
  await connection.query(UNLINK_LARGE_OBJECTS, 'remove the large objects');
}

/** They hold a slot on another server, which no transaction here can give back. */
export async function refuseSubscriptions(connection: Connection): Promise<void> {
  const rows = await connection.query(
    'SELECT subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()',
    'list subscriptions',
  );
  if (rows.length === 0) return;
  const names = rows.map(({ name }) => name ?? '');
  throw new CellarError(
    'conflict',
    `The database has subscriptions (${names.join(', ')}), which cannot be removed in a transaction.`,
    { hint: 'DROP SUBSCRIPTION them first, or use mode swap.', details: { subscriptions: names } },
  );
}
