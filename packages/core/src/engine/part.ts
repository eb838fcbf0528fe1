/**
 * What of its database a backup holds, when filters left something out. A part stands in for no other part and not for the whole: not when
 * a database is replaced by a backup of it, and not when older backups are deleted because a newer one is there.
 */
import type { DumpFilters } from './engine.ts';

/** Words for people; equal for filters that choose the same; undefined for the whole database. */
export function partOf(filters: DumpFilters): string | undefined {
  const named = (words: string, patterns: readonly string[]) =>
    patterns.length === 0 ? [] : [`${words} ${[...new Set(patterns)].sort().join(', ')}`];
  const said = [
    ...(filters.schemaOnly ? ['definitions only'] : []),
    ...named('only schemas', filters.includeSchemas),
    ...named('without schemas', filters.excludeSchemas),
    ...named('only tables', filters.includeTables),
    ...named('without tables', filters.excludeTables),
    // Where no rows are, none are left out.
    ...(filters.schemaOnly ? [] : named('without the rows of', filters.excludeTableData)),
  ];
  return said.length === 0 ? undefined : said.join('; ');
}
