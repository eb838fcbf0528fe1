/**
 * What the command line itself refuses before the library is asked: a contradiction between options, a missing passphrase,
 * a confirmation that nobody can give. Ends with exit code 2, like commander's own complaints.
 */
export class UsageError extends Error {
  readonly hint: string | undefined;

  /** @param message what is wrong, as a sentence. @param hint what to do instead, as a sentence. */
  constructor(message: string, hint?: string) {
    super(message);
    this.name = 'UsageError';
    this.hint = hint;
  }
}
