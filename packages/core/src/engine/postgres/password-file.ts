/**
 * Passwords from libpq's password file, `~/.pgpass` or the file that PGPASSFILE names (PostgreSQL manual, 34.16), which keep them out of URLs.
 * The stock tools read it by themselves; this is for our own connections.
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

/** The password of the first line that fits, '' where none does or the file may be read by others. */
export function passwordFromFile({ host, port, database, user }: Target): Promise<string> {
  return new Promise((resolve) => {
    lookUp({ host, port, database, user }, (password) => resolve(password ?? ''));
  });
}
