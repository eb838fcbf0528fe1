/**
 * Locators of PostgreSQL entries: what a restore needs, beside the entry's bytes, to put it back. They are stored in manifests as JSON,
 * so they are small, and parsed when they come back.
 *
 * Stored bytes by kind:
 * - `schema`: header and TOC of the archive exactly as pg_dump wrote them (offset flags as on a pipe).
 * - `rows`: pure COPY text without the terminator `\.`, so its newlines are its rows.
 * - `large-objects`: the raw contents of the archive's large-object blocks in TOC order, one after the other. Each is
 *   `(oid, (length, bytes)…, 0)…, 0` in the archive's own integers, so it says itself where it ends.
 * - `globals`: the SQL of pg_dumpall.
 */
import { z } from 'zod';
import { CellarError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import type { Entry } from '../engine.ts';

/** Rows that pg_dump itself wrote: the TOC of `schema` holds their TABLE DATA entry. */
export interface ArchivedRowsLocator {
  readonly from: 'archive';
  /** Of the TABLE DATA entry. */
  readonly dumpId: number;
}

/** Rows that Cellar copied on its own connections: their TABLE DATA entry has to be composed from the table's own entry. */
export interface CopiedRowsLocator {
  readonly from: 'copy';
  /** Dump id of the TABLE entry in the TOC of `schema`: its tag, namespace and owner are those of TABLE DATA. */
  readonly tableDumpId: number;
  readonly tableOid: number;
  /** pg_dump's own form, `COPY schema.table (column, …) FROM stdin;` and a newline, in the dump's encoding, as base64. */
  readonly copyStatement: string;
}

export type RowsLocator = ArchivedRowsLocator | CopiedRowsLocator;

export interface LargeObjectsLocator {
  /** Dump ids of the BLOBS entries whose block contents follow each other in the entry. */
  readonly dumpIds: readonly number[];
}

const rowsLocator = z.discriminatedUnion('from', [
  z.object({ from: z.literal('archive'), dumpId: z.int().positive() }),
  z.object({
    from: z.literal('copy'),
    tableDumpId: z.int().positive(),
    tableOid: z.int().positive(),
    copyStatement: z.base64(),
  }),
]);

const largeObjectsLocator = z.object({ dumpIds: z.array(z.int().positive()) });

/** Throws `damaged` for a locator that is not one. */
export function parseRowsLocator(entry: Entry): RowsLocator {
  return parsed(entry, rowsLocator);
}

export function parseLargeObjectsLocator(entry: Entry): LargeObjectsLocator {
  return parsed(entry, largeObjectsLocator);
}

function parsed<T>(entry: Entry, schema: z.ZodType<T>): T {
  const result = schema.safeParse(entry.locator);
  if (result.success) return result.data;
  throw new CellarError('damaged', `The backup does not say how to put back its entry ${entry.name}.`, {
    cause: result.error,
    details: { entry: entry.name },
  });
}

/** A locator as the JSON value that it is. */
export function locatorJson(locator: RowsLocator | LargeObjectsLocator): Json {
  return { ...locator };
}

/** Entry name of a table's rows: `public.orders`; a part that a dot would make ambiguous is quoted as SQL does. */
export function rowsEntryName(schema: string, table: string): string {
  return `${namePart(schema)}.${namePart(table)}`;
}

function namePart(name: string): string {
  return /[."\s]/.test(name) || name === '' ? `"${name.replaceAll('"', '""')}"` : name;
}
