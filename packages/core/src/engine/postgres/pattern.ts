/**
 * Name patterns as psql and pg_dump take them (manual, psql, "Patterns"), turned into the regular expressions that the server matches:
 * unquoted letters are lower-cased, `*` is any run, `?` any one character, a dot divides schema and name, and within double quotes all is
 * literal. Cellar lists and locks the same tables that pg_dump will choose, so both must read a pattern the same way. Source:
 * `patternToSQLRegex` in `string_utils.c`.
 */
import { CellarError } from '../../errors.ts';

export interface NamePattern {
  /** Regular expression of the schema; undefined: whatever the search path shows. */
  readonly schema: string | undefined;
  readonly name: string;
}

/** Throws `invalid-input` for one with more dots than a table's name can have, or an open quote. */
export function parseTablePattern(pattern: string): NamePattern {
  const parts = split(pattern);
  if (parts.length > 2) throw invalid(pattern, 'It may have one dot, between schema and table.');
  const [first = '', second] = parts;
  return second === undefined ? { schema: undefined, name: first } : { schema: first, name: second };
}

export function parseSchemaPattern(pattern: string): string {
  const parts = split(pattern);
  if (parts.length > 1) throw invalid(pattern, "A schema's name has no dot; quote it if it does.");
  return parts[0] ?? '';
}

/** A pattern that fits exactly these tables of one schema, and no others. */
export function exactTablesPattern(schema: string, tables: readonly string[]): string {
  return `${quoted(schema)}.${tables.map(quoted).join('|')}`;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** The parts between unquoted dots, each as an anchored expression. */
function split(pattern: string): readonly string[] {
  const parts: string[] = [];
  let part = '';
  let inQuotes = false;
  for (let index = 0; index < pattern.length; index++) {
    const character = pattern[index] ?? '';
    if (character === '"') {
      if (inQuotes && pattern[index + 1] === '"') {
        part += '"';
        index++;
      } else {
        inQuotes = !inQuotes;
      }
    } else if (inQuotes) {
      part += /[|*+?()[\]{}.^$\\]/.test(character) ? `\\${character}` : character;
    } else if (character === '*') {
      part += '.*';
    } else if (character === '?') {
      part += '.';
    } else if (character === '.') {
      parts.push(part);
      part = '';
    } else if (character === '$') {
      part += '\\$';
    } else {
      part += /[A-Z]/.test(character) ? character.toLowerCase() : character;
    }
  }
  if (inQuotes) throw invalid(pattern, 'A double quote in it is not closed.');
  parts.push(part);
  if (parts.some((text) => text === '')) throw invalid(pattern, 'A part of it is empty.');
  return parts.map((text) => `^(${text})$`);
}

function invalid(pattern: string, why: string): CellarError {
  return new CellarError('invalid-input', `${JSON.stringify(pattern)} is not a pattern of names. ${why}`, {
    hint: 'Write schema, or schema.table, with * for any run of characters and ? for one; put names with capitals or odd characters in double quotes.',
  });
}
