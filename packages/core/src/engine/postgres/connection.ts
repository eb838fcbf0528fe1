/**
 * Connections to PostgreSQL: by `pg` for statements, and the environment that tells pg_dump and its kin where to connect. An abort of
 * the signal cuts the connection; what ran on it is rolled back by the server.
 */
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { CellarError, cancelled, throwIfAborted } from '../../errors.ts';
import { connectError, statementError } from './database-error.ts';
import { passwordFromSurroundings } from './password-file.ts';
import type { Target } from './target.ts';

export interface Connection extends AsyncDisposable {
  readonly target: Target;
  /** `server_version_num` / 10000: 15. */
  readonly serverMajor: number;
  /** As the server says it: `15.18`. */
  readonly serverVersion: string;
  /** Aborted, with the reason, when the connection ends for any cause but its disposal. */
  readonly lost: AbortSignal;
  /** Backend's process id on the server. */
  readonly backendId: number;
  /**
   * Runs one statement (several without `values`; the last one's rows) and returns its rows, all columns as text or null.
   * `doing` completes "Failed to …" in its error.
   */
  query(sql: string, doing: string, values?: readonly (string | number | null)[]): Promise<readonly TextRow[]>;
  /** The driver's own client, for what the above does not cover. */
  readonly client: pg.Client;
}

/** A row with every value as the server's text. */
export type TextRow = Readonly<Record<string, string | null>>;

export interface ConnectOptions {
  /** Makes the socket; for callers that read it in their own way. */
  readonly socket?: () => Socket;
}

/** Values stay text: what they mean is for the caller to say, once, where it is read. */
const TEXT_TYPES: pg.CustomTypesConfig = { getTypeParser: () => (value: string) => value };

/** Throws `database-unreachable`, `database-login`, `not-found` (no such database), or `cancelled`. */
export async function connect(target: Target, signal: AbortSignal, options: ConnectOptions = {}): Promise<Connection> {
  throwIfAborted(signal);
  const attempts = await sslAttempts(target);
  let last: unknown;
  for (const ssl of attempts) {
    try {
      return await connectOnce(target, ssl, signal, options);
    } catch (error) {
      throwIfAborted(signal);
      last = error;
      if (!anotherModeMayHelp(error)) break;
    }
  }
  throw connectError(last, target);
}

async function connectOnce(
  target: Target,
  ssl: ConnectionOptions | false,
  signal: AbortSignal,
  options: ConnectOptions,
): Promise<Connection> {
  const client = new pg.Client({
    host: target.host,
    port: target.port,
    user: target.user,
    database: target.database,
    password: target.password ?? (() => passwordFromSurroundings(target)),
    ssl,
    connectionTimeoutMillis: target.connectTimeoutMs,
    application_name: 'cellar',
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    types: TEXT_TYPES,
    // Also keeps a PGOPTIONS of the surroundings from changing what a dump says.
    options: '-c client_encoding=UTF8',
    ...(options.socket === undefined ? {} : { stream: options.socket }),
  });
  const lost = new AbortController();
  let disposed = false;
  let connected = false;
  const cut = () => client.connection.stream.destroy();
  const onLost = (error?: Error) => {
    if (disposed || !connected) return;
    lost.abort(
      signal.aborted ? cancelled(signal) : statementError(error ?? new Error('no reason given'), 'keep the connection'),
    );
  };
  client.on('error', onLost);
  client.on('end', () => onLost());
  signal.addEventListener('abort', cut, { once: true });
  const release = () => signal.removeEventListener('abort', cut);
  try {
    await client.connect();
  } catch (error) {
    release();
    cut();
    throw error;
  }
  connected = true;

  const connection: Connection = {
    target,
    serverMajor: 0,
    serverVersion: '',
    backendId: 0,
    lost: lost.signal,
    client,
    async query(sql, doing, values) {
      throwIfAborted(signal);
      try {
        const result: pg.QueryResult | pg.QueryResult[] = await client.query(
          sql,
          values === undefined ? undefined : [...values],
        );
        return (Array.isArray(result) ? result.at(-1) : result)?.rows ?? [];
      } catch (error) {
        if (signal.aborted) throw cancelled(signal);
        throw statementError(error, doing);
      }
    },
    async [Symbol.asyncDispose]() {
      if (disposed) return;
      disposed = true;
      release();
      // The goodbye may hang on a dead network or a busy session; the socket is closed then.
      const timer = setTimeout(cut, 2000);
      await client.end().catch(cut);
      clearTimeout(timer);
    },
  };
  try {
    const [row] = await connection.query(
      `SELECT current_setting('server_version_num') AS num, current_setting('server_version') AS version,
         pg_backend_pid() AS pid, getdatabaseencoding() AS encoding`,
      'read the server version',
    );
    const serverMajor = Math.floor(Number(row?.['num']) / 10_000);
    // Such a database may hold any bytes, and the server would refuse to send those that are no UTF-8.
    if (row?.['encoding'] === 'SQL_ASCII')
      await connection.query('SET client_encoding = SQL_ASCII', 'set the encoding');
    // "15.18 (Debian 15.18-0+deb12u1)": the part that compares.
    const serverVersion = (row?.['version'] ?? '').split(' ')[0] ?? '';
    return Object.assign(connection, { serverMajor, serverVersion, backendId: Number(row?.['pid']) });
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
}

/** The ways to try, in order: `false` is unencrypted. */
async function sslAttempts(target: Target): Promise<readonly (ConnectionOptions | false)[]> {
  // libpq never encrypts unix sockets.
  if (target.host.startsWith('/') || target.sslMode === 'disable') return [false];
  const ssl = await sslOptions(target);
  switch (target.sslMode) {
    case 'allow':
      return [false, ssl];
    case 'prefer':
      return [ssl, false];
    default:
      return [ssl];
  }
}

async function sslOptions(target: Target): Promise<ConnectionOptions> {
  const { sslMode, sslRootCert } = target;
  // With a root certificate at hand, libpq treats `require` as `verify-ca`.
  const verifies = sslMode.startsWith('verify') || (sslMode === 'require' && sslRootCert !== undefined);
  const rootCert = sslRootCert ?? (verifies ? join(homedir(), '.postgresql', 'root.crt') : undefined);
  const files = {
    ...(verifies && rootCert !== undefined && rootCert !== 'system' ? { ca: await pem(rootCert, 'sslrootcert') } : {}),
    ...(target.sslCert === undefined ? {} : { cert: await pem(target.sslCert, 'sslcert') }),
    ...(target.sslKey === undefined ? {} : { key: await pem(target.sslKey, 'sslkey') }),
  };
  const checksName = sslMode === 'verify-full' || rootCert === 'system';
  return {
    rejectUnauthorized: verifies,
    ...(checksName ? {} : { checkServerIdentity: () => undefined }),
    ...files,
  };
}

async function pem(path: string, parameter: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new CellarError('invalid-input', `The file that ${parameter} names cannot be read: ${path}.`, {
      hint:
        parameter === 'sslrootcert'
          ? 'Give the certificate authority as sslrootcert=FILE, or sslrootcert=system.'
          : 'Check the path and its permissions.',
      cause: error,
    });
  }
}

/** As libpq: encrypted and unencrypted logins may be ruled differently, but only these answers say so. */
function anotherModeMayHelp(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && error.code === '28000') return true;
  return /does not support SSL|establishing an SSL connection/.test(error.message);
}

/**
 * The environment by which the tools find the server, without a secret in any argument list: merge it over `toolBaseEnvironment()`.
 * Time zone and bytea form are fixed, since pg_dump sets neither (design of a dump: equal data gives equal bytes everywhere).
 */
export function toolEnvironment(target: Target): Readonly<Record<string, string>> {
  return {
    PGHOST: target.host,
    PGPORT: String(target.port),
    PGUSER: target.user,
    PGDATABASE: target.database,
    ...(target.password === undefined ? {} : { PGPASSWORD: target.password }),
    PGSSLMODE: target.sslMode,
    ...(target.sslRootCert === undefined ? {} : { PGSSLROOTCERT: target.sslRootCert }),
    ...(target.sslCert === undefined ? {} : { PGSSLCERT: target.sslCert }),
    ...(target.sslKey === undefined ? {} : { PGSSLKEY: target.sslKey }),
    PGCONNECT_TIMEOUT: String(Math.ceil(target.connectTimeoutMs / 1000)),
    PGAPPNAME: 'cellar',
    PGTZ: 'UTC',
    PGOPTIONS: '-c bytea_output=hex',
  };
}
