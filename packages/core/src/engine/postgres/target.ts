/**
 * Where to connect: a PostgreSQL URL taken apart. The grammar is that of libpq (PostgreSQL manual, 34.1.1.2 "Connection URIs"), of which
 * the parameters below are understood; an unknown one is an error, since ignoring `sslmode` misspelt would be a hole. No message quotes
 * the URL: it may hold a password.
 */
import { userInfo } from 'node:os';
import { CellarError } from '../../errors.ts';

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof SSL_MODES)[number];

/** Plain data, so that a task can carry it to a worker thread. Holds the password: never to be logged or stored. */
export interface Target {
  /** Host name, address, or the folder of a unix socket when it starts with `/`. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly sslMode: SslMode;
  /** Paths of PEM files; `system` as root certificate means the system's own. */
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  readonly connectTimeoutMs: number;
}

const PARAMETERS = [
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'connect_timeout',
  'application_name',
] as const;
type Parameter = (typeof PARAMETERS)[number];

const DEFAULT_CONNECT_TIMEOUT_MS = 15_000;

const ENCODE_HINT =
  'The form is postgres://USER:PASSWORD@HOST:PORT/DATABASE; characters like @ / ? # % in a name or password are written as %40 %2F %3F %23 %25.';

/** Throws `invalid-input`, never quoting any part that might be a password. */
export function parseTarget(url: string): Target {
  const scheme = /^(?:postgres|postgresql):\/\//.exec(url);
  if (scheme === null) throw invalid('The database URL does not start with postgres:// or postgresql://.');
  const rest = url.slice(scheme[0].length);

  const slash = rest.search(/\//);
  const at = rest.lastIndexOf('@', slash === -1 ? rest.length : slash);
  const credentials = at === -1 ? '' : rest.slice(0, at);
  const afterCredentials = rest.slice(at + 1);
  const question = afterCredentials.indexOf('?');
  const place = question === -1 ? afterCredentials : afterCredentials.slice(0, question);
  const parameters = parseParameters(question === -1 ? '' : afterCredentials.slice(question + 1));

  const pathStart = place.indexOf('/');
  const authority = pathStart === -1 ? place : place.slice(0, pathStart);
  const path = pathStart === -1 ? '' : decode(place.slice(pathStart + 1), 'database name');
  const address = parseAuthority(authority);
  const colon = credentials.indexOf(':');
  const urlUser = decode(colon === -1 ? credentials : credentials.slice(0, colon), 'user name');
  const urlPassword = colon === -1 ? '' : decode(credentials.slice(colon + 1), 'password');

  const user = parameters.get('user') ?? (urlUser === '' ? systemUser() : urlUser);
  const password = parameters.get('password') ?? urlPassword;
  const database = parameters.get('dbname') ?? (path === '' ? user : path);
  const host = parameters.get('host') ?? (address.host === '' ? 'localhost' : address.host);
  if (host.includes(',')) {
    throw invalid('The database URL names several hosts.', 'Give one host: a backup is taken from one server.');
  }
  if ([user, password, database, host].some((part) => part.includes('\0'))) {
    throw invalid('The database URL holds a zero character.');
  }
  const sslMode = parseSslMode(parameters.get('sslmode'), host);
  return {
    host,
    port: parsePort(parameters.get('port') ?? address.port),
    user,
    password: password === '' ? undefined : password,
    database,
    sslMode,
    sslRootCert: parameters.get('sslrootcert'),
    sslCert: parameters.get('sslcert'),
    sslKey: parameters.get('sslkey'),
    connectTimeoutMs: parseTimeout(parameters.get('connect_timeout')),
  };
}

/** For people and messages: `database at host:port`, without user or password. */
export function describeTarget(target: Target): string {
  return `${target.database} at ${target.host}:${target.port}`;
}

/** The same server and user, another database. */
export function withDatabase(target: Target, database: string): Target {
  return { ...target, database };
}

function parseParameters(query: string): ReadonlyMap<Parameter, string> {
  const found = new Map<Parameter, string>();
  for (const [index, pair] of query.split('&').entries()) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decode(equals === -1 ? pair : pair.slice(0, equals), 'parameters');
    const known = PARAMETERS.find((parameter) => parameter === name);
    if (known === undefined || equals === -1) {
      // Not by name: what follows an & that was not encoded may be the rest of a password.
      const what = equals === -1 ? 'has no value' : 'is none that Cellar knows';
      throw invalid(
        `Parameter ${index + 1} of the database URL ${what}.`,
        `Known parameters: ${PARAMETERS.join(', ')}. ${ENCODE_HINT}`,
      );
    }
    const value = decode(pair.slice(equals + 1), `parameter ${known}`);
    if (value !== '') found.set(known, value);
  }
  return found;
}

function parseAuthority(authority: string): { readonly host: string; readonly port: string | undefined } {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(authority);
  if (bracketed !== null) return { host: decode(bracketed[1] ?? '', 'host'), port: emptyToUndefined(bracketed[2]) };
  const colon = authority.lastIndexOf(':');
  if (colon === -1) return { host: decode(authority, 'host'), port: undefined };
  return { host: decode(authority.slice(0, colon), 'host'), port: emptyToUndefined(authority.slice(colon + 1)) };
}

function parsePort(text: string | undefined): number {
  if (text === undefined) return 5432;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) {
    throw invalid('The port in the database URL is not a number from 1 to 65535.', ENCODE_HINT);
  }
  return port;
}

/**
 * libpq's default is `prefer`. To the machine itself it would only cost time, so there encryption is used when the server insists.
 */
function parseSslMode(text: string | undefined, host: string): SslMode {
  if (text === undefined) return isLocal(host) ? 'allow' : 'prefer';
  const mode = SSL_MODES.find((known) => known === text);
  if (mode === undefined) {
    throw invalid('The sslmode in the database URL is none that PostgreSQL knows.', `Known: ${SSL_MODES.join(', ')}.`);
  }
  return mode;
}

function parseTimeout(text: string | undefined): number {
  if (text === undefined) return DEFAULT_CONNECT_TIMEOUT_MS;
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (seconds === 0) throw invalid('The connect_timeout in the database URL is not a number of seconds.');
  return seconds * 1000;
}

function isLocal(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || /^127\./.test(host);
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(
      `The ${part} in the database URL holds a % that is not followed by two hexadecimal digits.`,
      ENCODE_HINT,
    );
  }
}

function emptyToUndefined(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

function systemUser(): string {
  return userInfo().username;
}

function invalid(message: string, hint: string = ENCODE_HINT): CellarError {
  return new CellarError('invalid-input', message, { hint });
}
