/**
 * Passwords that stand in no URL, found as libpq finds them (PostgreSQL manual, 34.15 and 34.16): PGPASSWORD, else the first line that fits
 * in `~/.pgpass` or the file that PGPASSFILE names. The stock tools, which are handed these variables, do so by themselves; this is for our
 * own connections, which must come to the same.
 */
import { createRequire } from 'node:module';
import type { Target } from './target.ts';

type Lookup = (wanted: Place, answer: (password: string | undefined) => void) => void;

interface Place {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/** The module comes without types. */
const lookUp = createRequire(import.meta.url)('pgpass') as Lookup;

/** What libpq is built with: Debian's and its kin's, and PostgreSQL's own. Lines for `localhost` are meant for these. */
const DEFAULT_SOCKET_FOLDERS: readonly string[] = ['/var/run/postgresql', '/tmp'];

/** The password for a target that has none of its own; '' where there is none, or the file may be read by others. */
export function passwordFromSurroundings({ host, port, database, user }: Target): Promise<string> {
  // biome-ignore lint/style/noProcessEnv: see above; the tools are given the same variable
  const fromVariable = process.env['PGPASSWORD'];
  if (fromVariable !== undefined && fromVariable !== '') return Promise.resolve(fromVariable);
  const place = { host: DEFAULT_SOCKET_FOLDERS.includes(host) ? 'localhost' : host, port, database, user };
  return new Promise((resolve) => {
    lookUp(place, (password) => resolve(password ?? ''));
  });
}
