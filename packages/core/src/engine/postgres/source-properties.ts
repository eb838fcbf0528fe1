/** The database-level properties that a dump recorded of its source, for a restore that replaces no database. */
import type { SourceFacts } from '../engine.ts';
import type { DatabaseGrant, DatabaseProperties } from './database-properties.ts';
import { parseDetails } from './source-facts.ts';

export function sourceProperties(source: SourceFacts): DatabaseProperties {
  const details = parseDetails(source);
  return {
    owner: details.owner,
    grants: details.acl === null ? undefined : details.acl.flatMap(parseAclItem),
    comment: details.comment ?? undefined,
    connectionLimit: details.connectionLimit,
    settings: details.settings.flatMap(({ role, settings }) =>
      settings.map((setting) => {
        const equals = setting.indexOf('=');
        return { role: role ?? undefined, name: setting.slice(0, equals), value: setting.slice(equals + 1) };
      }),
    ),
    isTemplate: details.isTemplate,
    // The source's own place says nothing of another server's disks.
    tablespace: 'pg_default',
  };
}

const PRIVILEGES: Readonly<Record<string, DatabaseGrant['privilege']>> = {
  c: 'CONNECT',
  C: 'CREATE',
  T: 'TEMPORARY',
};

/** `role=CT*c/grantor` (PostgreSQL manual, 5.7 "Privileges"); an empty role is PUBLIC, odd names are quoted. */
export function parseAclItem(item: string): readonly DatabaseGrant[] {
  const match = /^(?:"((?:[^"]|"")*)"|([^="]*))=([A-Za-z*]*)\//.exec(item);
  if (match === null) return [];
  const grantee = match[1] === undefined ? (match[2] ?? '') : match[1].replaceAll('""', '"');
  return [...(match[3] ?? '').matchAll(/([A-Za-z])(\*?)/g)].flatMap(([, letter = '', star]) => {
    const privilege = PRIVILEGES[letter];
    return privilege === undefined ? [] : [{ grantee, privilege, grantable: star === '*' }];
  });
}
