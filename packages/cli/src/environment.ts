/**
 * The only file of the command line that reads `process.env`. Everything else is handed an Environment, so that what a
 * variable means is written once and tests need not touch the process.
 */

export interface Environment {
  /** Opens or creates an encrypted repository or file, without a prompt. */
  readonly passphrase: string | undefined;
  /** A file whose first line is the passphrase. */
  readonly passphraseFile: string | undefined;
  /** The database to back up or probe when none is named, so that no password stands in an argument list. */
  readonly databaseUrl: string | undefined;
  /** The repository when `--repo` is not given. */
  readonly repository: string | undefined;
  /** Errors with their details and stack traces. */
  readonly debug: boolean;
  /** Any variable, for database URLs given as `env:NAME`. */
  readonly variable: (name: string) => string | undefined;
}

export function readEnvironment(): Environment {
  const { env } = process;
  return {
    passphrase: filled(env.CELLAR_PASSPHRASE),
    passphraseFile: filled(env.CELLAR_PASSPHRASE_FILE),
    databaseUrl: filled(env.DATABASE_URL),
    repository: filled(env.CELLAR_REPO),
    debug: filled(env.CELLAR_DEBUG) !== undefined && env.CELLAR_DEBUG !== '0',
    variable: (name) => filled(env[name]),
  };
}

/** A variable that is set to nothing counts as not set: that is what `VAR= cellar …` and empty compose entries mean. */
function filled(value: string | undefined): string | undefined {
  return value === undefined || value === '' ? undefined : value;
}
