/**
 * The post-data phase in stages, so that pg_restore's parallel connections cannot block each other for good:
 *
 *   1 indexes, primary keys, unique and exclusion constraints   in parallel: each needs its table, or that and what is below it
 *   2 all but foreign keys, ALTER INDEX … ATTACH PARTITION first   on one connection: short, and many lock several tables of a tree
 *   3 foreign keys                                                in parallel, but never two on the same partition tree
 *
 * pg_restore runs two entries at once only when neither alters a table that the other depends on. It takes those tables from the
 * dependencies on TABLE entries that are in its archive, so the archive has to hold them (`lockedTables`); and it does not know that
 * a foreign key of a partitioned table locks the partitions too, so its dependencies have to say so (`withTreeLocks`).
 */
import { archiveText, type TocEntry } from './archive.ts';
import { encodeEntry } from './archive-writer.ts';
import type { StoredArchive } from './stored-archive.ts';

export interface PostDataStage {
  readonly entries: readonly TocEntry[];
  readonly parallel: boolean;
}

/** @param entries of the post-data phase, in TOC order, which puts what an entry depends on before it. */
export function postDataStages(stored: StoredArchive, entries: readonly TocEntry[]): readonly PostDataStage[] {
  const stages: [TocEntry[], TocEntry[], TocEntry[]] = [[], [], []];
  const stageOf = new Map<number, 0 | 1 | 2>();
  for (const entry of entries) {
    let stage = ownStage(archiveText(entry.description));
    for (const id of entry.dependencies) {
      const earliest = stageOf.get(Number(id)) ?? 0;
      if (earliest > stage) stage = earliest;
    }
    stageOf.set(entry.dumpId, stage);
    stages[stage].push(entry);
  }
  const [indexes, others, foreignKeys] = stages;
  return [
    { entries: indexes, parallel: true },
    { entries: others, parallel: false },
    { entries: withTreeLocks(stored, foreignKeys), parallel: true },
  ];
}

function ownStage(description: string): 0 | 1 | 2 {
  switch (description) {
    case 'INDEX':
    case 'CONSTRAINT':
    // They follow what they are about, which they depend on.
    case 'COMMENT':
    case 'SECURITY LABEL':
      return 0;
    case 'FK CONSTRAINT':
      return 2;
    default:
      return 1;
  }
}

/** TABLE entries that must be in the archive of `entries` without being restored: their locks are known by them. */
export function lockedTables(stored: StoredArchive, entries: readonly TocEntry[]): readonly TocEntry[] {
  const needed = new Set(entries.flatMap(({ dependencies }) => dependencies.map(Number)));
  const present = new Set(entries);
  return stored.toc.entries.filter((entry) => isTable(entry) && needed.has(entry.dumpId) && !present.has(entry));
}

/** The entries with, for each table that they depend on, a dependency on one same table of its partition or inheritance tree. */
function withTreeLocks(stored: StoredArchive, entries: readonly TocEntry[]): readonly TocEntry[] {
  if (entries.length === 0) return entries;
  const trees = new TableTrees(stored.toc.entries.filter(isTable));
  return entries.map((entry) => {
    const has = new Set(entry.dependencies.map(Number));
    const tops = new Set([...has].map((id) => trees.top(id)).filter((id) => id !== undefined && !has.has(id)));
    if (tops.size === 0) return entry;
    const added = [...tops].map((id) => Buffer.from(String(id), 'latin1'));
    const changed = { ...entry, dependencies: [...entry.dependencies, ...added] };
    return { ...changed, raw: encodeEntry(stored.toc.header, changed) };
  });
}

/** Tables that hang together. A partition's or child's TABLE entry depends on its parent's. */
class TableTrees {
  readonly #above = new Map<number, number>();

  constructor(tables: readonly TocEntry[]) {
    for (const { dumpId } of tables) this.#above.set(dumpId, dumpId);
    for (const { dumpId, dependencies } of tables) {
      for (const dependency of dependencies) {
        const [own, other] = [this.top(dumpId), this.top(Number(dependency))];
        if (own !== undefined && other !== undefined) this.#above.set(own, other);
      }
    }
  }

  /** The one table that stands for all of its tree; undefined for what is no table. */
  top(dumpId: number): number | undefined {
    let id = dumpId;
    for (;;) {
      const above = this.#above.get(id);
      if (above === undefined || above === id) return above;
      id = above;
    }
  }
}

function isTable(entry: TocEntry): boolean {
  return archiveText(entry.description) === 'TABLE';
}
