/**
 * How a failure is told: one paragraph that says what failed, why, and what to do; the same as data with `--json`; and the exit code.
 * What is not an error of ours is a defect, and says so with the place to report it.
 */

import type { Json } from '@cellar/core';
import { CellarError } from '@cellar/core';
import { EXIT, EXIT_BY_ERROR, type ExitCode } from './exit-codes.ts';
import { printable } from './output/format.ts';
import { redact } from './redact.ts';
import { UsageError } from './usage-error.ts';

export interface Failure {
  readonly exitCode: ExitCode;
  /** As it is written to stderr, without a final newline. */
  readonly text: string;
  readonly json: Json;
}

/** @param details also causes, facts and stack traces: `--verbose` or CELLAR_DEBUG. */
export function describeFailure(error: unknown, details: boolean): Failure {
  const { exitCode, code, message, hint } = classify(error);
  const paragraph = [message, hint]
    .filter((sentence) => sentence !== undefined)
    .map((sentence) => sentence.trim())
    .join(' ');
  const lines = paragraph.split('\n').map(printable).join('\n');
  const text = redact(details ? `${lines}\n\n${trace(error)}` : lines);
  const facts = error instanceof CellarError ? (jsonOf(error.details) ?? {}) : {};
  return {
    exitCode,
    text,
    json: redacted({ error: { code, message, hint: hint ?? null, retryable: retryable(error), details: facts } }),
  };
}

function classify(error: unknown): { exitCode: ExitCode; code: string; message: string; hint: string | undefined } {
  if (error instanceof CellarError) {
    const { code, message, hint } = error;
    return { exitCode: EXIT_BY_ERROR[code], code, message, hint };
  }
  if (error instanceof UsageError) {
    return { exitCode: EXIT.usage, code: 'usage', message: error.message, hint: error.hint };
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    exitCode: EXIT.failed,
    code: 'unexpected',
    message: `Something went wrong that Cellar did not foresee: ${message}.`,
    hint: 'Please report it with what you did and the output of the same command with --verbose.',
  };
}

function retryable(error: unknown): boolean {
  return error instanceof CellarError && error.retryable;
}

/** The error with its causes, their stacks and facts. */
function trace(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && parts.length < 10; ) {
    const stack = current instanceof Error ? (current.stack ?? String(current)) : String(current);
    const facts = current instanceof CellarError ? `\n    details: ${JSON.stringify(jsonOf(current.details))}` : '';
    parts.push(`${parts.length === 0 ? '' : 'caused by '}${stack}${facts}`);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join('\n');
}

/** What was not found may be a URL with a password, given in the wrong place. */
function redacted(document: Json): Json {
  return JSON.parse(redact(JSON.stringify(document))) as Json;
}

/** What JSON can carry of a value: details hold plain facts, and what is not plain is left out. */
function jsonOf(value: unknown): Json | undefined {
  const text = JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? Number(inner) : inner));
  return text === undefined ? undefined : (JSON.parse(text) as Json);
}
