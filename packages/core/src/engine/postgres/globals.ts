/** Roles and tablespaces, which belong to the server and not to a database: `pg_dumpall --globals-only`. */
import { toolEnvironment } from './connection.ts';
import type { Target } from './target.ts';
import type { ToolRun } from './tool-process.ts';
import type { Tool } from './tools.ts';

/** The password hashes of roles are for superusers' eyes only. */
export const WITHOUT_PASSWORDS_WARNING =
  'The roles are backed up without their passwords, which only a superuser may read: set them anew after a restore.';

export function globalsRun(target: Target, tool: Tool, superuser: boolean, stallTimeoutMs: number): ToolRun {
  return {
    tool,
    args: [
      '--globals-only',
      '--no-password',
      ...(superuser ? [] : ['--no-role-passwords']),
      // pg_dumpall takes the database to connect to from its argument alone, else tries `postgres` and `template1`. As a connection
      // string, since a bare name may look like one.
      `--dbname=dbname='${target.database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
    ],
    env: toolEnvironment(target),
    input: false,
    stallTimeoutMs,
  };
}
