/**
 * What a restore needs on the target before anything is loaded: roles, tablespaces and extensions that the definitions name. A missing
 * owner would otherwise silently become the restorer, and a missing extension would end the load half-way. And whether the backup is one
 * to replace a database by.
 */
import { CellarError } from '../../errors.ts';
import type { BackupContents, RestoreOptions } from '../engine.ts';
import { archiveText, type TocEntry } from './archive.ts';
import type { Connection } from './connection.ts';
import { type StoredArchive, storedText } from './stored-archive.ts';

export interface OwnershipChoices {
  readonly owners: 'keep' | 'drop';
  readonly privileges: 'keep' | 'drop';
}

/**
 * What is replaced as a whole would afterwards lack what the backup never held: `latest`, restored out of habit, may be a backup of
 * definitions alone.
 */
export function refusePart({ part }: BackupContents, { acceptPart }: RestoreOptions, database: string): void {
  if (part === undefined || acceptPart === true) return;
  throw new CellarError(
    'invalid-input',
    `The backup holds only a part of its database (${part}), so ${database} was not replaced by it.`,
    {
      hint: 'Restore it into a new database (mode new), choose tables of it, or accept that the rest will not be there (--accept-part).',
      details: { part },
    },
  );
}

/** Role names that the entries' owners, privileges and policies name. */
export function rolesOfEntries(
  stored: StoredArchive,
  entries: readonly TocEntry[],
  choices: OwnershipChoices,
): ReadonlySet<string> {
  const text = (value: Buffer | null) => storedText(stored, value);
  const roles = new Set<string>();
  for (const entry of entries) {
    const description = archiveText(entry.description);
    const owner = text(entry.owner);
    if (choices.owners === 'keep' && owner !== '') roles.add(owner);
    const isPrivilege = description === 'ACL' || description === 'DEFAULT ACL';
    if (isPrivilege && choices.privileges === 'keep') {
      for (const role of rolesOfGrants(text(entry.definition))) roles.add(role);
    }
    if (description === 'POLICY') for (const role of rolesOfPolicy(text(entry.definition))) roles.add(role);
  }
  return roles;
}

interface Token {
  readonly kind: 'word' | 'identifier' | 'literal' | 'symbol';
  readonly text: string;
}

function tokensOf(sql: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /"((?:[^"]|"")*)"|'(?:[^']|'')*'|([\p{L}_][\p{L}\p{N}_$]*)|(\S)/gu;
  for (const match of sql.matchAll(pattern)) {
    if (match[1] !== undefined) tokens.push({ kind: 'identifier', text: match[1].replaceAll('""', '"') });
    else if (match[2] !== undefined) tokens.push({ kind: 'word', text: match[2] });
    else if (match[3] !== undefined) tokens.push({ kind: 'symbol', text: match[3] });
    else tokens.push({ kind: 'literal', text: match[0] });
  }
  return tokens;
}

/** GRANT … TO a, b; REVOKE … FROM a; ALTER DEFAULT PRIVILEGES FOR ROLE a …; SET SESSION AUTHORIZATION a. */
export function rolesOfGrants(sql: string): readonly string[] {
  const tokens = tokensOf(sql);
  const roles: string[] = [];
  tokens.forEach((token, index) => {
    if (token.kind !== 'word') return;
    const before = tokens[index - 1];
    if (token.text === 'TO' || token.text === 'FROM') roles.push(...rolesAt(tokens, index + 1));
    else if (token.text === 'ROLE' && before?.text === 'FOR') roles.push(...rolesAt(tokens, index + 1));
    else if (token.text === 'AUTHORIZATION' && before?.text === 'SESSION') roles.push(...rolesAt(tokens, index + 1));
  });
  return roles;
}

/** CREATE POLICY p ON t … TO a, b USING (…). */
function rolesOfPolicy(sql: string): readonly string[] {
  const tokens = tokensOf(sql);
  const index = tokens.findIndex(({ kind, text }) => kind === 'word' && ['TO', 'USING', 'WITH'].includes(text));
  return tokens[index]?.text === 'TO' ? rolesAt(tokens, index + 1) : [];
}

const NOT_ROLES = ['PUBLIC', 'CURRENT_USER', 'SESSION_USER', 'CURRENT_ROLE', 'DEFAULT'];

function rolesAt(tokens: readonly Token[], start: number): readonly string[] {
  const roles: string[] = [];
  for (let index = start; ; index += 2) {
    const token = tokens[index];
    if (token === undefined || (token.kind !== 'word' && token.kind !== 'identifier')) break;
    if (token.kind === 'identifier' || !NOT_ROLES.includes(token.text)) roles.push(token.text);
    if (tokens[index + 1]?.text !== ',') break;
  }
  return roles;
}

/** Throws `not-found`, naming all roles that the server does not have. */
export async function checkRoles(connection: Connection, roles: Iterable<string>): Promise<void> {
  const wanted = [...new Set(roles)];
  const rows = await connection.query('SELECT rolname AS name FROM pg_roles', 'list the roles');
  const there = new Set(rows.map(({ name }) => name));
  const missing = wanted.filter((role) => !there.has(role)).sort();
  if (missing.length === 0) return;
  throw new CellarError(
    'not-found',
    `The target server lacks ${some('role', missing)} that own or may use what is in the backup.`,
    {
      hint: 'Create them, restore the roles of the backup too (globals), or restore without owners and privileges.',
      details: { roles: missing },
    },
  );
}

/** Throws `not-found`, naming all tablespaces that the server does not have. */
export async function checkTablespaces(
  connection: Connection,
  stored: StoredArchive,
  entries: readonly TocEntry[],
): Promise<void> {
  const wanted = new Set(
    entries
      .filter(({ description }) => archiveText(description) !== 'DATABASE')
      .map(({ tablespace }) => storedText(stored, tablespace)),
  );
  wanted.delete('');
  if (wanted.size === 0) return;
  const rows = await connection.query('SELECT spcname AS name FROM pg_tablespace', 'list the tablespaces');
  const there = new Set(rows.map(({ name }) => name));
  const missing = [...wanted].filter((name) => !there.has(name)).sort();
  if (missing.length === 0) return;
  throw new CellarError('not-found', `The target server lacks ${some('tablespace', missing)} that the backup uses.`, {
    hint: 'Create them with CREATE TABLESPACE, or restore the globals of the backup too.',
    details: { tablespaces: missing },
  });
}

/** Throws `not-found` for extensions that are not installed on the server; returns warnings for versions that differ. */
export async function checkExtensions(
  connection: Connection,
  stored: StoredArchive,
  entries: readonly TocEntry[],
): Promise<readonly string[]> {
  const wanted = entries
    .filter(({ description }) => archiveText(description) === 'EXTENSION')
    .map(({ tag }) => archiveText(tag));
  if (wanted.length === 0) return [];
  const rows = await connection.query(
    'SELECT name, default_version AS version FROM pg_available_extensions',
    'list the extensions that the server offers',
  );
  const there = new Map(rows.map(({ name, version }) => [name, version] as const));
  const missing = wanted.filter((name) => !there.has(name)).sort();
  if (missing.length > 0) {
    throw new CellarError(
      'not-found',
      `The target server does not offer ${some('extension', missing)} that the backup uses.`,
      {
        hint: 'Install the packages that bring these extensions on the target server.',
        details: { extensions: missing },
      },
    );
  }
  return wanted.flatMap((name) => {
    const source = stored.contents.source.extensions.find((extension) => extension.name === name)?.version;
    const target = there.get(name);
    if (source === undefined || source === target) return [];
    return [
      `Extension ${name} had version ${source} in the source; the target server installs ${target ?? 'another'}.`,
    ];
  });
}

function some(kind: string, names: readonly string[]): string {
  const shown = names
    .slice(0, 10)
    .map((name) => JSON.stringify(name))
    .join(', ');
  const more = names.length > 10 ? ` and ${names.length - 10} more` : '';
  return names.length === 1 ? `the ${kind} ${shown}` : `the ${kind}s ${shown}${more}`;
}
