/**
 * What the server, the network and TLS say, as Cellar's errors: which code, and what a person can do. SQLSTATEs are those of the
 * PostgreSQL manual, appendix A.
 */
import { CellarError, type ErrorCode } from '../../errors.ts';
import { describeTarget, type Target } from './target.ts';

interface ServerComplaint {
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly table?: string;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly hint?: string;
  readonly retryable?: boolean;
}

/** By SQLSTATE, or by its class (first two characters). */
const SQLSTATES: Readonly<Record<string, Meaning>> = {
  '28P01': { code: 'database-login', hint: 'Check the user and the password in the database URL.' },
  '28000': {
    code: 'database-login',
    hint: "Check the user in the database URL, and the server's pg_hba.conf: it must let this user in from this machine.",
  },
  '3D000': { code: 'not-found', hint: 'Check the name of the database in the URL.' },
  '53300': {
    code: 'database-unreachable',
    hint: 'The server has no free connections: use fewer jobs, or raise max_connections.',
    retryable: true,
  },
  '53100': { code: 'database-failed', hint: 'The disk of the database server is full: free some space on it.' },
  '53200': {
    code: 'database-failed',
    hint: 'The server ran out of memory or of lock table entries: with very many tables raise max_locks_per_transaction.',
  },
  '57P03': {
    code: 'database-unreachable',
    hint: 'The server is starting or stopping: try again shortly.',
    retryable: true,
  },
  '57014': {
    code: 'database-failed',
    hint: 'Somebody, or a time limit of the server, cancelled the statement.',
    retryable: true,
  },
  '57': { code: 'database-failed', hint: 'The server or an administrator ended the connection.', retryable: true },
  '08': { code: 'database-failed', retryable: true },
  '40': { code: 'database-failed', retryable: true },
  '42501': { code: 'database-privilege', hint: 'Grant this user the right, or connect as the owner or a superuser.' },
  '55P03': {
    code: 'database-locked',
    hint: 'Another session holds a lock: wait for it, end it, or allow a longer lock timeout.',
    retryable: true,
  },
};

const NETWORK: Readonly<Record<string, string>> = {
  ENOTFOUND: 'The host name is not known: check it in the database URL.',
  EAI_AGAIN: 'The name server did not answer: check the network and the host name.',
  ECONNREFUSED: 'Nothing listens there: check host and port, and that the server runs and listens on that address.',
  ENOENT: 'There is no such socket: check the folder and the port, and that the server runs.',
  EACCES: 'The socket may not be opened by this user.',
  EHOSTUNREACH: 'The host cannot be reached from here: check the network and firewalls.',
  ENETUNREACH: 'The network cannot be reached from here: check the network and firewalls.',
  ETIMEDOUT: 'The host did not answer: check the address and firewalls.',
};

/** An error met while connecting. */
export function connectError(error: unknown, target: Target): CellarError {
  if (error instanceof CellarError) return error;
  const where = describeTarget(target);
  const complaint = asServerComplaint(error);
  if (complaint !== undefined) {
    const meaning = meaningOf(complaint.code) ?? { code: 'database-unreachable' };
    return new CellarError(
      meaning.code,
      `The server refused the connection to ${where}: ${sentence(complaint.message)}`,
      {
        ...optional(meaning),
        cause: error,
        details: { sqlState: complaint.code },
      },
    );
  }
  const first = firstOf(error);
  const code = errno(first);
  const message = first instanceof Error ? first.message : String(first);
  if (code in NETWORK) {
    return new CellarError('database-unreachable', `Could not connect to ${where}: ${code}.`, {
      hint: NETWORK[code] ?? '',
      retryable: true,
      cause: error,
    });
  }
  if (/does not support SSL/i.test(message)) {
    return new CellarError('database-unreachable', `The server of ${where} offers no encrypted connections.`, {
      hint: 'Use sslmode=prefer or sslmode=disable if an unencrypted connection is acceptable, or set ssl=on on the server.',
      cause: error,
    });
  }
  if (/password must be a string|no password|SASL/i.test(message)) {
    return new CellarError(
      'database-login',
      `The server of ${where} wants a password that was not given or does not fit.`,
      {
        hint: 'Check the user and the password in the database URL.',
        cause: error,
      },
    );
  }
  if (
    /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_|SELF_SIGNED|UNABLE_TO|ERR_CRYPTO)/.test(code) ||
    /certificate|TLS|SSL/i.test(message)
  ) {
    return new CellarError(
      'database-unreachable',
      `No trusted encrypted connection to ${where}: ${sentence(message)}`,
      {
        hint: 'Check sslrootcert, sslcert and sslkey, and that the certificate names this host; sslmode says how strict to be.',
        cause: error,
      },
    );
  }
  if (/timeout|terminated|ECONNRESET|EPIPE/i.test(`${message} ${code}`)) {
    return new CellarError(
      'database-unreachable',
      `The connection to ${where} was not answered or cut: ${sentence(message)}`,
      {
        hint: 'Check host, port and firewalls, and that it is a PostgreSQL server that listens there.',
        retryable: true,
        cause: error,
      },
    );
  }
  return new CellarError('database-unreachable', `Could not connect to ${where}: ${sentence(message)}`, {
    cause: error,
  });
}

/** An error of a statement. `doing` completes "Failed to …": `lock the tables`. */
export function statementError(error: unknown, doing: string): CellarError {
  if (error instanceof CellarError) return error;
  const complaint = asServerComplaint(error);
  if (complaint === undefined) {
    const message = error instanceof Error ? error.message : String(error);
    return new CellarError('database-failed', `Failed to ${doing}: the connection was cut (${message}).`, {
      hint: "Look into the server's log for the reason.",
      retryable: true,
      cause: error,
    });
  }
  const meaning = meaningOf(complaint.code) ?? { code: 'database-failed' };
  // A missing database is `not-found` only when one connects to it.
  const code = meaning.code === 'not-found' ? 'database-failed' : meaning.code;
  const detail = complaint.detail === undefined ? '' : ` ${sentence(complaint.detail)}`;
  return new CellarError(code, `Failed to ${doing}: ${sentence(complaint.message)}${detail}`, {
    ...optional(meaning),
    cause: error,
    details: { sqlState: complaint.code },
  });
}

export function sqlStateOf(error: unknown): string | undefined {
  return asServerComplaint(error)?.code;
}

function meaningOf(sqlState: string): Meaning | undefined {
  return SQLSTATES[sqlState] ?? SQLSTATES[sqlState.slice(0, 2)];
}

function optional(meaning: Meaning): { hint?: string; retryable?: boolean } {
  return {
    ...(meaning.hint === undefined ? {} : { hint: meaning.hint }),
    ...(meaning.retryable === undefined ? {} : { retryable: meaning.retryable }),
  };
}

function asServerComplaint(error: unknown): ServerComplaint | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  if (!/^[0-9A-Z]{5}$/.test(error.code) || !('severity' in error)) return undefined;
  const detail = 'detail' in error && typeof error.detail === 'string' ? { detail: error.detail } : {};
  return { code: error.code, message: error.message, ...detail };
}

/** Node tries every address of a host and reports all failures at once. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError ? (error.errors[0] ?? error) : error;
}

function errno(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
