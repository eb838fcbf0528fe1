/**
 * The scratch database that a restore loads into, beside the live one: made from template0 with the source's encoding and locale,
 * closed to everybody else, marked by its comment, and dropped again unless the restore succeeds.
 */
import pg from 'pg';
import { CellarError, isCellarError } from '../../errors.ts';
import type { SourceFacts } from '../engine.ts';
import { archiveText } from './archive.ts';
import { type Connection, connect } from './connection.ts';
import { markComment, parseMark, type ScratchMark } from './database-names.ts';
import type { StoredArchive } from './stored-archive.ts';
import { type Target, withDatabase } from './target.ts';

/** Databases that every server has, to give commands about another one from. */
const ADMIN_DATABASES = ['postgres', 'template1'];

/** Connects to a database that is not `target`'s own, since no database can be renamed or dropped from within. */
export async function connectBeside(target: Target, signal: AbortSignal): Promise<Connection> {
  let last: unknown;
  for (const database of ADMIN_DATABASES.filter((name) => name !== target.database)) {
    try {
      return await connect(withDatabase(target, database), signal);
    } catch (error) {
      if (
        !isCellarError(error, 'not-found') &&
        !isCellarError(error, 'database-privilege') &&
        !isCellarError(error, 'database-login')
      ) {
        throw error;
      }
      last = error;
    }
  }
  throw last;
}

/** Held while one restore works on a database: a second one would swap what the first has just swapped in. Ends with the session. */
export async function lockRestore(admin: Connection, database: string): Promise<void> {
  const [row] = await admin.query(
    'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS granted',
    'lock the database against a second restore',
    [`cellar restore ${database}`],
  );
  if (row?.['granted'] === 't') return;
  throw new CellarError('conflict', `Another restore into ${database} is running.`, {
    hint: 'Wait for it to end, or end it.',
    retryable: true,
  });
}

/** Creates the scratch database and marks it. Throws `database-privilege`, or what the server says of locale and encoding. */
export async function createScratch(
  admin: Connection,
  name: string,
  mark: ScratchMark,
  createClauses: string,
): Promise<void> {
  const quoted = pg.escapeIdentifier(name);
  await admin.query(
    `CREATE DATABASE ${quoted} WITH TEMPLATE = template0 ${createClauses}`,
    `create the database ${name}`,
  );
  // From here on a crash leaves something: it must be known for what it is.
  await markScratch(admin, name, mark);
  await admin.query(
    `REVOKE CONNECT, TEMPORARY ON DATABASE ${quoted} FROM PUBLIC`,
    `close the database ${name} to others`,
  );
}

export async function markScratch(admin: Connection, name: string, mark: ScratchMark): Promise<void> {
  await admin.query(
    `COMMENT ON DATABASE ${pg.escapeIdentifier(name)} IS ${pg.escapeLiteral(markComment(mark))}`,
    `mark the database ${name}`,
  );
}

/** Drops it whatever still uses it; no error when it is gone. On a connection of its own, since it is called after aborts too. */
export async function dropScratch(target: Target, name: string): Promise<void> {
  await using admin = await connectBeside(target, AbortSignal.timeout(60_000));
  await admin.query(
    `DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`,
    `drop the scratch database ${name}`,
  );
}

/**
 * Removes what crashed restores into `database` left, and opens the database again if one had closed it for its swap. To be called
 * with the restore's lock held. Returns what was done, for the report.
 */
export async function cleanUpAfterCrash(admin: Connection, database: string): Promise<readonly string[]> {
  const rows = await admin.query(
    `SELECT d.datname AS name, shobj_description(d.oid, 'pg_database') AS comment FROM pg_database d
      WHERE d.datname LIKE '%\\_cellar\\_%'`,
    'look for remains of earlier restores',
  );
  const leftovers = rows.flatMap(({ name, comment }) => {
    const mark = parseMark(comment ?? '');
    return mark?.target === database && name !== null && name !== undefined ? [{ name, mark }] : [];
  });
  const done: string[] = [];
  if (leftovers.some(({ mark }) => mark.state === 'swapping')) {
    const [live] = await admin.query(
      'SELECT datallowconn AS open FROM pg_database WHERE datname = $1',
      'look at the database',
      [database],
    );
    if (live?.['open'] === 'f') {
      await admin.query(
        `ALTER DATABASE ${pg.escapeIdentifier(database)} ALLOW_CONNECTIONS true`,
        `open the database ${database}`,
      );
      done.push(
        `An earlier restore was interrupted while it had closed ${database} for connections: it is open again.`,
      );
    }
  }
  for (const { name } of leftovers) {
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`, `drop the database ${name}`);
    done.push(`Dropped ${name}, which an interrupted restore had left.`);
  }
  return done;
}

/** The clauses of CREATE DATABASE for encoding, locale and locale provider, as the source had them. */
export function createClauses(stored: StoredArchive, targetMajor: number): string {
  const entry = stored.toc.entries.find(({ description }) => archiveText(description) === 'DATABASE');
  const definition = archiveText(entry?.definition ?? null);
  // pg_dump's own: CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';
  const clauses =
    / WITH TEMPLATE = template0 ((?:(?:ENCODING|LOCALE_PROVIDER|LOCALE|LC_COLLATE|LC_CTYPE|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = (?:'(?:[^']|'')*'|\w+) ?)+)/.exec(
      definition.replaceAll(/ (?:TABLESPACE) = (?:"(?:[^"]|"")*"|\w+)/g, '').replace(/;\s*$/, ' '),
    )?.[1];
  if (clauses === undefined) return factsClauses(stored.contents.source);
  // Before 15 there was one provider, and no word for it.
  return targetMajor < 15 ? clauses.replace(/LOCALE_PROVIDER = libc ?/, '') : clauses;
}

export function factsClauses({ encoding, collate, ctype }: SourceFacts): string {
  return [
    encoding === '' ? '' : `ENCODING = ${pg.escapeLiteral(encoding)}`,
    collate === '' ? '' : `LC_COLLATE = ${pg.escapeLiteral(collate)}`,
    ctype === '' ? '' : `LC_CTYPE = ${pg.escapeLiteral(ctype)}`,
  ]
    .filter((clause) => clause !== '')
    .join(' ');
}
