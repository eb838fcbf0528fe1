/**
 * Which entries of an archive belong to chosen tables: their definitions, sequences they own, defaults, constraints, indexes, triggers,
 * rules, policies, statistics, comments and privileges; partitions of a chosen partitioned table. And which others those need.
 * Read from the dependencies that pg_dump wrote, not from the text of definitions.
 */
import { CellarError } from '../../errors.ts';
import type { TableName } from '../engine.ts';
import { archiveText, type TocEntry } from './archive.ts';
import { type StoredArchive, type StoredRows, storedText } from './stored-archive.ts';
import { showName } from './verify-restored.ts';

/** Named `table object`; they may depend on other tables too, so the name decides whose they are. */
const NAMED_AFTER_TABLE = ['DEFAULT', 'CONSTRAINT', 'CHECK CONSTRAINT', 'FK CONSTRAINT', 'TRIGGER', 'RULE', 'POLICY'];

/** They belong to whatever they depend on. */
const HANGS_ON = [
  'INDEX',
  'STATISTICS',
  'SEQUENCE',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'ROW SECURITY',
  'COMMENT',
  'ACL',
  'SECURITY LABEL',
  'TABLE DATA',
  'STATISTICS DATA',
];

/** They join two: both must be there. */
const JOINS = ['TABLE ATTACH', 'INDEX ATTACH'];

export interface Selection {
  /** Dump ids of the TABLE entries, partitions included. */
  readonly tables: ReadonlySet<number>;
  readonly tableEntries: readonly TocEntry[];
  /** All that belongs to them, they included. Foreign keys to tables that were not chosen are not in it. */
  readonly entries: ReadonlySet<TocEntry>;
  readonly rows: readonly StoredRows[];
  /** Keys of chosen tables that refer to tables not chosen: to be added where those exist in the target. */
  readonly outwardKeys: readonly { readonly key: TocEntry; readonly to: TocEntry }[];
  /** Chosen partitions whose parent was not chosen: to be attached where it exists in the target. */
  readonly outwardAttachments: readonly { readonly attachment: TocEntry; readonly to: TocEntry }[];
  /** Definitions that the above need and that belong to none of the tables: types, functions, schemas, …, in TOC order. */
  readonly needed: readonly TocEntry[];
}

/** Throws `not-found` for a name that is no table of the backup. */
export function selectTables(stored: StoredArchive, names: readonly TableName[]): Selection {
  const { entries } = stored.toc;
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry] as const));
  const tables = chosenTables(stored, names);
  const chosen = new Set<TocEntry>();
  const ids = new Set<number>();
  const add = (entry: TocEntry) => {
    chosen.add(entry);
    ids.add(entry.dumpId);
  };
  for (const id of tables) add(entryOf(byId, id));

  const outwardKeys: { key: TocEntry; to: TocEntry }[] = [];
  const outwardAttachments: { attachment: TocEntry; to: TocEntry }[] = [];
  // What hangs on something may stand before it in the TOC: until nothing more is found.
  for (let size = -1; size !== chosen.size; ) {
    size = chosen.size;
    for (const entry of entries) {
      if (chosen.has(entry) || !belongs(entry, ids, byId, tables)) continue;
      if (kind(entry) === 'FK CONSTRAINT') {
        const to = dependencies(entry, byId).find((other) => isTable(other) && !tables.has(other.dumpId));
        if (to !== undefined) {
          if (!outwardKeys.some(({ key }) => key === entry)) outwardKeys.push({ key: entry, to });
          continue;
        }
      }
      add(entry);
    }
  }
  for (const entry of entries) {
    if (kind(entry) !== 'TABLE ATTACH' || chosen.has(entry)) continue;
    const [child, to] = orderedPair(entry, byId);
    if (child !== undefined && to !== undefined && tables.has(child.dumpId))
      outwardAttachments.push({ attachment: entry, to });
  }
  return {
    tables,
    tableEntries: entries.filter(({ dumpId }) => tables.has(dumpId)),
    entries: chosen,
    rows: stored.rows.filter(({ tableEntry }) => tableEntry !== undefined && tables.has(tableEntry.dumpId)),
    outwardKeys,
    outwardAttachments,
    needed: neededBy(entries, chosen, byId),
  };
}

function chosenTables(stored: StoredArchive, names: readonly TableName[]): ReadonlySet<number> {
  const { entries } = stored.toc;
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry] as const));
  const tables = new Set<number>();
  const missing: string[] = [];
  for (const name of names) {
    const found =
      stored.rows.find(({ table }) => table.schema === name.schema && table.name === name.name)?.tableEntry ??
      entries.find(
        (entry) =>
          isTable(entry) &&
          storedText(stored, entry.namespace) === name.schema &&
          storedText(stored, entry.tag) === name.name,
      );
    if (found === undefined) missing.push(showName(name));
    else tables.add(found.dumpId);
  }
  if (missing.length > 0) {
    throw new CellarError('not-found', `The backup holds no table ${missing.join(', ')}.`, {
      hint: 'Names are exact, with their schema: public.orders. `cellar show` lists the tables of a backup.',
      details: { tables: missing },
    });
  }
  // Partitions come with the table that they are part of, to any depth.
  for (let size = -1; size !== tables.size; ) {
    size = tables.size;
    for (const entry of entries) {
      if (kind(entry) !== 'TABLE ATTACH') continue;
      const [child, parent] = orderedPair(entry, byId);
      if (child !== undefined && parent !== undefined && tables.has(parent.dumpId)) tables.add(child.dumpId);
    }
  }
  return tables;
}

function belongs(
  entry: TocEntry,
  ids: ReadonlySet<number>,
  byId: ReadonlyMap<number, TocEntry>,
  tables: ReadonlySet<number>,
): boolean {
  const description = kind(entry);
  if (NAMED_AFTER_TABLE.includes(description)) {
    return dependencies(entry, byId).some((other) => tables.has(other.dumpId) && isNamedAfter(entry, other));
  }
  const depends = entry.dependencies.map(Number);
  if (HANGS_ON.includes(description)) return depends.some((id) => ids.has(id));
  return JOINS.includes(description) && depends.length > 0 && depends.every((id) => ids.has(id));
}

function isNamedAfter(entry: TocEntry, table: TocEntry): boolean {
  const tag = entry.tag ?? Buffer.alloc(0);
  const start = Buffer.concat([table.tag ?? Buffer.alloc(0), Buffer.from(' ')]);
  return sameBytes(entry.namespace, table.namespace) && tag.subarray(0, start.length).equals(start);
}

/** Child and parent of TABLE ATTACH: its tag is the child's name. */
function orderedPair(
  entry: TocEntry,
  byId: ReadonlyMap<number, TocEntry>,
): [TocEntry | undefined, TocEntry | undefined] {
  const both = dependencies(entry, byId).filter(isTable);
  const child = both.find((table) => sameBytes(table.tag, entry.tag) && sameBytes(table.namespace, entry.namespace));
  return [child, both.find((table) => table !== child)];
}

/** Transitively, what the chosen entries depend on; and the schemas they are in. Tables only where a type or function needs one. */
function neededBy(
  entries: readonly TocEntry[],
  chosen: ReadonlySet<TocEntry>,
  byId: ReadonlyMap<number, TocEntry>,
): readonly TocEntry[] {
  const needed = new Set<TocEntry>();
  const waiting = [...chosen];
  const need = (entry: TocEntry) => {
    if (chosen.has(entry) || needed.has(entry)) return;
    needed.add(entry);
    waiting.push(entry);
  };
  for (let entry = waiting.pop(); entry !== undefined; entry = waiting.pop()) {
    for (const other of dependencies(entry, byId)) need(other);
    const { namespace } = entry;
    const schema = entries.find(
      (other) => kind(other) === 'SCHEMA' && namespace !== null && sameBytes(other.tag, namespace),
    );
    if (schema !== undefined) need(schema);
  }
  return entries.filter((entry) => needed.has(entry));
}

function dependencies(entry: TocEntry, byId: ReadonlyMap<number, TocEntry>): readonly TocEntry[] {
  return entry.dependencies.flatMap((id) => byId.get(Number(id)) ?? []);
}

function entryOf(byId: ReadonlyMap<number, TocEntry>, id: number): TocEntry {
  const entry = byId.get(id);
  if (entry === undefined) throw new Error(`No entry ${id}`);
  return entry;
}

export function kind(entry: TocEntry): string {
  return archiveText(entry.description);
}

export function isTable(entry: TocEntry): boolean {
  return kind(entry) === 'TABLE' || kind(entry) === 'FOREIGN TABLE';
}

function sameBytes(a: Buffer | null, b: Buffer | null): boolean {
  return a !== null && b !== null ? a.equals(b) : a === b;
}
