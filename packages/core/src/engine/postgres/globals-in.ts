/**
 * Puts back the roles and tablespaces of a backup that the target server lacks; those that it has stay as they are, passwords and all.
 * Read from the SQL of `pg_dumpall --globals-only`.
 */
import { CellarError } from '../../errors.ts';
import type { BackupContents } from '../engine.ts';
import type { Connection } from './connection.ts';

const MAX_GLOBALS_BYTES = 64 * 1024 * 1024;

/** Returns what was created and what could not be known, for the report. Throws `invalid-input` when the backup holds no globals. */
export async function restoreGlobals(
  admin: Connection,
  contents: BackupContents,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const entry = contents.entries.find(({ kind }) => kind === 'globals');
  if (entry === undefined) {
    throw new CellarError('invalid-input', 'The backup holds no roles and tablespaces.', {
      hint: 'Restore without globals, and create the roles by hand; or back up with globals the next time.',
    });
  }
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of contents.open(entry, signal)) {
    size += piece.length;
    if (size > MAX_GLOBALS_BYTES) throw new CellarError('damaged', 'The globals in the backup are larger than can be.');
    pieces.push(Buffer.from(piece));
  }
  const statements = splitStatements(Buffer.concat(pieces).toString('utf8'));
  const roles = await names(admin, 'SELECT rolname AS name FROM pg_roles');
  const tablespaces = await names(admin, 'SELECT spcname AS name FROM pg_tablespace');
  const { run, created } = missingOnly(statements, roles, tablespaces);
  // Passwords stand in them: the server's log of failed statements is not ours to guard, but our own messages are.
  for (const sql of run) await admin.query(sql, `restore the globals (${sql.split(' ').slice(0, 3).join(' ')})`);
  return created.map((what) => `Created ${what}.`);
}

async function names(admin: Connection, sql: string): Promise<ReadonlySet<string>> {
  const rows = await admin.query(sql, 'list roles and tablespaces');
  return new Set(rows.map(({ name }) => name ?? ''));
}

/** Chooses the statements about roles and tablespaces that are not there. */
export function missingOnly(
  statements: readonly string[],
  roles: ReadonlySet<string>,
  tablespaces: ReadonlySet<string>,
): { readonly run: readonly string[]; readonly created: readonly string[] } {
  const newRoles = new Set<string>();
  const newSpaces = new Set<string>();
  const run: string[] = [];
  for (const sql of statements) {
    const [verb = '', ...rest] = words(sql);
    const head = [verb, ...rest.slice(0, 2)].join(' ');
    const name = unquoted(rest[verb === 'COMMENT' ? 2 : 1] ?? '');
    if (verb === 'CREATE' && rest[0] === 'ROLE') {
      if (roles.has(name)) continue;
      newRoles.add(name);
    } else if (verb === 'CREATE' && rest[0] === 'TABLESPACE') {
      if (tablespaces.has(name)) continue;
      newSpaces.add(name);
    } else if (/^(ALTER ROLE|COMMENT ON ROLE)/.test(head)) {
      if (!newRoles.has(name)) continue;
      // Settings of a role in one database: that database may not be here.
      if (rest[2] === 'IN' && rest[3] === 'DATABASE') continue;
    } else if (/^(ALTER TABLESPACE|COMMENT ON TABLESPACE)/.test(head)) {
      if (!newSpaces.has(name)) continue;
    } else if (verb === 'GRANT') {
      // GRANT role TO role …; or GRANT … ON TABLESPACE name TO ….
      const on = rest.indexOf('ON');
      const to = rest.indexOf('TO');
      const concerned =
        on === -1
          ? newRoles.has(unquoted(rest[0] ?? '')) || newRoles.has(unquoted(rest[to + 1] ?? ''))
          : newSpaces.has(unquoted(rest[on + 2] ?? ''));
      if (!concerned) continue;
    } else {
      // SET of the script's own session, and what this program does not know.
      continue;
    }
    run.push(sql);
  }
  return {
    run,
    created: [
      ...[...newRoles].map((role) => `the role ${role}`),
      ...[...newSpaces].map((space) => `the tablespace ${space}`),
    ],
  };
}

/** SQL statements without their semicolons; comments and psql's own commands are left out. */
export function splitStatements(script: string): readonly string[] {
  const statements: string[] = [];
  const pattern =
    /--[^\n]*|^\\[^\n]*|[eE]'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|;|[^-\\'";eE]+|[\s\S]/gmu;
  let current = '';
  for (const [token] of script.matchAll(pattern)) {
    if (token.startsWith('--') || (token.startsWith('\\') && current.trim() === '')) continue;
    if (token !== ';') {
      current += token;
      continue;
    }
    if (current.trim() !== '') statements.push(current.trim());
    current = '';
  }
  if (current.trim() !== '') statements.push(current.trim());
  return statements;
}

function words(sql: string): readonly string[] {
  return sql.match(/"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s,;]+/g) ?? [];
}

function unquoted(word: string): string {
  return word.startsWith('"') ? word.slice(1, -1).replaceAll('""', '"') : word;
}
