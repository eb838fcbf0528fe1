/** The database-level properties that a dump recorded of its source, for a restore that replaces no database. */
import type { SourceFacts } from '../engine.ts';
import type { DatabaseProperties } from './database-properties.ts';

export function sourceProperties(_source: SourceFacts): DatabaseProperties | undefined {
  return undefined;
}
