/** Exit codes, and the one table that says which error ends with which. Scripts rely on these: see docs/command-line.md. */
import type { ErrorCode } from '@cellar/core';

export const EXIT = { done: 0, failed: 1, usage: 2, damaged: 3, cancelled: 130 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_BY_ERROR: Readonly<Record<ErrorCode, ExitCode>> = {
  'invalid-input': EXIT.usage,
  'not-found': EXIT.failed,
  conflict: EXIT.failed,
  damaged: EXIT.damaged,
  'unsupported-format': EXIT.failed,
  'wrong-key': EXIT.failed,
  'storage-failed': EXIT.failed,
  'storage-full': EXIT.failed,
  'database-unreachable': EXIT.failed,
  'database-login': EXIT.failed,
  'database-failed': EXIT.failed,
  'database-privilege': EXIT.failed,
  'database-locked': EXIT.failed,
  'tool-missing': EXIT.failed,
  'tool-failed': EXIT.failed,
  mismatch: EXIT.failed,
  stalled: EXIT.failed,
  cancelled: EXIT.cancelled,
};
