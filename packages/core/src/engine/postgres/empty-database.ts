/**
 * SQL that empties a database within the caller's transaction, until it is as template0 made it: for restores in place. Order matters:
 * event triggers first, or they fire on all that follows; extensions before the schemas they are in; `public` is as initdb made it.
 * `pg_restore --clean` cannot do this: it fails on partitioned tables with a key and on foreign keys, and leaves what was added.
 */
import { CellarError } from '../../errors.ts';
import type { Connection } from './connection.ts';

/** Objects made by initdb have lower oids (access/transam.h); they belong to every database. */
const FIRST_USER_OID = 16384;

/** Of default privileges. */
const KIND = `CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
  WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END`;

/** Each query gives statements, all of which are run before the next is asked: what went with a CASCADE is gone from the catalog by then. */
function drops(serverMajor: number): readonly string[] {
  return [
    `SELECT format('DROP EVENT TRIGGER %I CASCADE', evtname) FROM pg_event_trigger`,
    `SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication`,
    // Members of extensions go with them; what initdb installed (plpgsql) stays.
    `SELECT format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_extension WHERE oid >= ${FIRST_USER_OID}`,
    `SELECT format('DROP FOREIGN DATA WRAPPER IF EXISTS %I CASCADE', fdwname) FROM pg_foreign_data_wrapper WHERE oid >= ${FIRST_USER_OID}`,
    // Before casts and the like: those that a type of a schema made for itself go with it, and only so.
    ...(keepsPublic(serverMajor) ? [CONTENTS_OF_PUBLIC] : []),
    `SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace WHERE nspname !~ '^pg_'
      AND nspname NOT IN ('information_schema'${keepsPublic(serverMajor) ? ", 'public'" : ''}) ORDER BY nspname`,
    `SELECT format('DROP CAST IF EXISTS (%s AS %s) CASCADE', format_type(castsource, NULL), format_type(casttarget, NULL))
     FROM pg_cast WHERE oid >= ${FIRST_USER_OID}`,
    `SELECT format('DROP TRANSFORM IF EXISTS FOR %s LANGUAGE %I CASCADE', format_type(trftype, NULL), lanname)
     FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang WHERE t.oid >= ${FIRST_USER_OID}`,
    `SELECT format('DROP LANGUAGE IF EXISTS %I CASCADE', lanname) FROM pg_language WHERE oid >= ${FIRST_USER_OID}`,
    `SELECT format('DROP ACCESS METHOD IF EXISTS %I CASCADE', amname) FROM pg_am WHERE oid >= ${FIRST_USER_OID}`,
    ...defaultPrivileges(),
    ...(keepsPublic(serverMajor) ? RESET_PUBLIC : []),
  ];
}

/**
 * Before 15, pg_dump writes down how the privileges of `public` differ from those that initdb noted for it (pg_init_privs). A schema
 * that is dropped loses the note, and with a new `public` the next dumps would be silent about a REVOKE from PUBLIC. Nor may an owner
 * of a database, there, drop the schema.
 */
function keepsPublic(serverMajor: number): boolean {
  return serverMajor < 15;
}

/**
 * All that depends on the schema as what it is in, but for what only goes with something else (the sequence of an identity column).
 * What extensions brought is gone by then. As an array, since nothing can be named any more that a CASCADE took along.
 */
const CONTENTS_OF_PUBLIC = `SELECT unnest(ARRAY(SELECT format('DROP %s IF EXISTS %s CASCADE',
      CASE WHEN o.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE' WHEN o.type = 'statistics object' THEN 'STATISTICS' ELSE o.type END,
      o.identity)
    FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) o
   WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace('public') AND d.deptype = 'n'
     AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = d.classid AND i.objid = d.objid AND i.objsubid = 0 AND i.deptype = 'i')))`;

/** Owner and privileges as in template0, as far as this user may: privileges only by the owner, the owner only by a superuser. */
const RESET_PUBLIC: readonly string[] = [
  // Those of a schema add to the others, and are gone when nothing is left of them.
  `SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE ALL ON %s FROM %s', pg_get_userbyid(d.defaclrole), ${KIND},
          CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
     FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE d.defaclnamespace = to_regnamespace('public')
    GROUP BY d.defaclrole, d.defaclobjtype, a.grantee`,
  `SELECT format('ALTER SCHEMA public OWNER TO %I', pg_get_userbyid(10)) FROM pg_namespace
    WHERE nspname = 'public' AND nspowner <> 10 AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`,
  `SELECT format('REVOKE ALL ON SCHEMA public FROM %s CASCADE', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
     FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE') GROUP BY a.grantee`,
  `SELECT unnest(ARRAY[format('GRANT ALL ON SCHEMA public TO %I', pg_get_userbyid(nspowner)), 'GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC'])
     FROM pg_namespace WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')`,
];

/**
 * Default privileges of no schema go back to what the server assumes, and then are gone: all is revoked from everybody, and the owner's
 * and PUBLIC's usual ones granted. (Those of a schema went with it.)
 */
function defaultPrivileges(): readonly string[] {
  const start = `format('ALTER DEFAULT PRIVILEGES FOR ROLE %I ', pg_get_userbyid(d.defaclrole))`;
  return [
    `SELECT ${start} || 'REVOKE ALL ON ' || ${KIND} || ' FROM ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
       FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE d.defaclnamespace = 0 AND a.grantee <> d.defaclrole
      GROUP BY d.defaclrole, d.defaclobjtype, a.grantee`,
    `SELECT unnest(ARRAY[${start} || 'GRANT ALL ON ' || ${KIND} || ' TO ' || quote_ident(pg_get_userbyid(d.defaclrole)),
            CASE d.defaclobjtype WHEN 'f' THEN ${start} || 'GRANT EXECUTE ON FUNCTIONS TO PUBLIC'
                                 WHEN 'T' THEN ${start} || 'GRANT USAGE ON TYPES TO PUBLIC' END])
       FROM pg_default_acl d WHERE d.defaclnamespace = 0`,
  ];
}

/** As one script without psql commands, for a server of that major. Names stay the server's own; the text is ASCII. */
export function emptyDatabaseScript(serverMajor: number): string {
  const loops = drops(serverMajor).map(
    (query) => `FOR statement IN ${query} LOOP IF statement IS NOT NULL THEN EXECUTE statement; END IF; END LOOP;`,
  );
  return [
    `DO $cellar_empty$\nDECLARE statement text;\nBEGIN\n${loops.join('\n')}\nEND\n$cellar_empty$`,
    UNLINK_LARGE_OBJECTS,
    ...(keepsPublic(serverMajor) ? PUBLIC_BEFORE_15 : PUBLIC_SINCE_15),
    '',
  ].join(';\n');
}

/** As initdb makes it: owned by the database's owner, and only usable for everybody. */
const PUBLIC_SINCE_15: readonly string[] = [
  'CREATE SCHEMA public AUTHORIZATION pg_database_owner',
  'GRANT USAGE ON SCHEMA public TO PUBLIC',
  `COMMENT ON SCHEMA public IS 'standard public schema'`,
];

/** Where somebody has dropped it. */
const PUBLIC_BEFORE_15: readonly string[] = [
  `DO $cellar_public$
BEGIN
IF to_regnamespace('public') IS NULL THEN CREATE SCHEMA public; GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC; END IF;
IF (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public') THEN
  COMMENT ON SCHEMA public IS 'standard public schema';
END IF;
END
$cellar_public$`,
];

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
