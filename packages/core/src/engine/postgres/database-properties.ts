/**
 * What belongs to a database as a whole and is in no dump of its contents: owner, privileges, comment, connection limit, settings,
 * tablespace. Read from the database that a restore replaces, and put on the one that takes its place before anybody can use it.
 */
import pg from 'pg';
import type { Connection } from './connection.ts';

export interface DatabaseGrant {
  /** '' is PUBLIC. */
  readonly grantee: string;
  readonly privilege: 'CONNECT' | 'CREATE' | 'TEMPORARY';
  readonly grantable: boolean;
}

export interface DatabaseSetting {
  /** undefined: for every role. */
  readonly role: string | undefined;
  readonly name: string;
  readonly value: string;
}

export interface DatabaseProperties {
  readonly owner: string;
  /** undefined: the default, never granted nor revoked. */
  readonly grants: readonly DatabaseGrant[] | undefined;
  readonly comment: string | undefined;
  /** -1: none. */
  readonly connectionLimit: number;
  readonly settings: readonly DatabaseSetting[];
  readonly isTemplate: boolean;
  readonly tablespace: string;
}

/** Reads them over a connection to any database of the server; undefined when there is no database of that name. */
export async function readDatabaseProperties(
  connection: Connection,
  database: string,
): Promise<DatabaseProperties | undefined> {
  const [row] = await connection.query(
    `SELECT d.oid, pg_get_userbyid(d.datdba) AS owner, d.datacl IS NULL AS default_acl, d.datconnlimit AS connection_limit,
            d.datistemplate AS is_template, shobj_description(d.oid, 'pg_database') AS comment, t.spcname AS tablespace
       FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = $1`,
    'read the properties of the database',
    [database],
  );
  if (row === undefined) return undefined;
  const oid = row['oid'] ?? '';
  const grants = await connection.query(
    `SELECT CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END AS grantee, a.privilege_type AS privilege,
            a.is_grantable AS grantable
       FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid = $1::oid ORDER BY a.grantor <> d.datdba, 1, 2`,
    'read the privileges on the database',
    [oid],
  );
  const settings = await connection.query(
    `SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END AS role, c AS setting
       FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY AS o (c, place)
      WHERE s.setdatabase = $1::oid ORDER BY 1 NULLS FIRST, place`,
    'read the settings of the database',
    [oid],
  );
  return {
    owner: row['owner'] ?? '',
    grants:
      row['default_acl'] === 't'
        ? undefined
        : grants.flatMap((grant) => {
            const privilege = parsePrivilege(grant['privilege'] ?? '');
            if (privilege === undefined) return [];
            return [{ grantee: grant['grantee'] ?? '', privilege, grantable: grant['grantable'] === 't' }];
          }),
    comment: row['comment'] ?? undefined,
    connectionLimit: Number(row['connection_limit']),
    settings: settings.map(({ role, setting }) => {
      const equals = (setting ?? '').indexOf('=');
      return {
        role: role ?? undefined,
        name: (setting ?? '').slice(0, equals),
        value: (setting ?? '').slice(equals + 1),
      };
    }),
    isTemplate: row['is_template'] === 't',
    tablespace: row['tablespace'] ?? 'pg_default',
  };
}

function parsePrivilege(text: string): DatabaseGrant['privilege'] | undefined {
  return text === 'CONNECT' || text === 'CREATE' || text === 'TEMPORARY' ? text : undefined;
}

export interface PropertyChoices {
  readonly owners: 'keep' | 'drop';
  readonly privileges: 'keep' | 'drop';
}

/** The statements that give `database`, freshly made by the user `current` with CONNECT revoked from PUBLIC, these properties. */
export function databasePropertiesSql(
  database: string,
  properties: DatabaseProperties,
  choices: PropertyChoices,
): readonly string[] {
  const name = pg.escapeIdentifier(database);
  const owner = choices.owners === 'keep' ? properties.owner : undefined;
  return [
    ...(owner === undefined ? [] : [`ALTER DATABASE ${name} OWNER TO ${pg.escapeIdentifier(owner)}`]),
    ...grantsSql(name, owner, choices.privileges === 'keep' ? properties.grants : undefined),
    `COMMENT ON DATABASE ${name} IS ${properties.comment === undefined ? 'NULL' : pg.escapeLiteral(properties.comment)}`,
    `ALTER DATABASE ${name} CONNECTION LIMIT ${properties.connectionLimit}`,
    ...(properties.isTemplate ? [`ALTER DATABASE ${name} IS_TEMPLATE true`] : []),
    ...settingsToKeep(properties, choices).map((setting) => settingSql(name, setting)),
  ];
}

function grantsSql(name: string, owner: string | undefined, grants: readonly DatabaseGrant[] | undefined): string[] {
  if (grants === undefined) return [`GRANT CONNECT, TEMPORARY ON DATABASE ${name} TO PUBLIC`];
  const revoked = owner === undefined ? [] : [`REVOKE ALL ON DATABASE ${name} FROM ${pg.escapeIdentifier(owner)}`];
  return [
    `REVOKE ALL ON DATABASE ${name} FROM PUBLIC`,
    ...revoked,
    ...grants.map(({ grantee, privilege, grantable }) => {
      const to = grantee === '' ? 'PUBLIC' : pg.escapeIdentifier(grantee);
      return `GRANT ${privilege} ON DATABASE ${name} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`;
    }),
  ];
}

/** Settings that are lists of names: stored quoted already, so each element becomes a literal of its own (pg_dump does the same). */
const LISTS = [
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
];

function settingSql(name: string, { role, name: setting, value }: DatabaseSetting): string {
  const subject =
    role === undefined ? `ALTER DATABASE ${name}` : `ALTER ROLE ${pg.escapeIdentifier(role)} IN DATABASE ${name}`;
  const parameter = setting
    .split('.')
    .map((part) => pg.escapeIdentifier(part))
    .join('.');
  const values = LISTS.includes(setting.toLowerCase()) ? splitNameList(value) : [value];
  // An empty list is written as an empty string.
  const literals = values.length === 0 ? ["''"] : values.map((each) => pg.escapeLiteral(each));
  return `${subject} SET ${parameter} TO ${literals.join(', ')}`;
}

/** `"$user", public` → `$user`, `public`. */
export function splitNameList(list: string): string[] {
  const names: string[] = [];
  for (const match of list.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,"\s]+))\s*(?:,|$)/g)) {
    names.push(match[1] === undefined ? (match[2] ?? '') : match[1].replaceAll('""', '"'));
  }
  return names;
}

/** Role names that the properties need on a server. */
export function rolesOfProperties(properties: DatabaseProperties, choices: PropertyChoices): readonly string[] {
  return [
    ...(choices.owners === 'keep' ? [properties.owner] : []),
    ...(choices.privileges === 'keep' ? (properties.grants ?? []).map(({ grantee }) => grantee) : []),
    ...settingsToKeep(properties, choices).flatMap(({ role }) => (role === undefined ? [] : [role])),
  ].filter((role) => role !== '');
}

/** A role's own settings come with the roles' privileges: without those, roles are not asked for at all. */
function settingsToKeep(properties: DatabaseProperties, choices: PropertyChoices): readonly DatabaseSetting[] {
  return properties.settings.filter(({ role }) => role === undefined || choices.privileges === 'keep');
}
