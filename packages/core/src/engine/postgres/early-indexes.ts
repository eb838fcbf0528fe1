/**
 * Indexes that are built while other tables are still being loaded: by connections that have nothing left to load. Indexes and keys
 * that depend on nothing but their table need its rows alone; everything else waits for the post-data phase.
 */
import { archiveText, type TocEntry } from './archive.ts';
import type { StoredArchive, StoredRows } from './stored-archive.ts';

/** Below this an index is built in no time, and a process of its own costs more. */
const WORTH_IT_BYTES = 4 * 1024 * 1024;

export class EarlyIndexes {
  readonly #byTable = new Map<number, TocEntry[]>();
  readonly #ready: TocEntry[][] = [];
  readonly #taken = new Set<TocEntry>();

  /** @param postData the entries of the post-data phase. */
  constructor(stored: StoredArchive, postData: readonly TocEntry[]) {
    const tables = new Set(
      stored.toc.entries.filter((entry) => archiveText(entry.description) === 'TABLE').map(({ dumpId }) => dumpId),
    );
    for (const entry of postData) {
      if (!['INDEX', 'CONSTRAINT'].includes(archiveText(entry.description))) continue;
      const [table, ...others] = new Set(entry.dependencies.map(Number));
      // An index of a partition hangs on its parent's; a function in an expression may read rows that are yet to come.
      if (table === undefined || !tables.has(table) || others.length > 0) continue;
      this.#byTable.set(table, [...(this.#byTable.get(table) ?? []), entry]);
    }
  }

  /** To be told when a table's rows are in. */
  loaded(table: StoredRows): void {
    const entries = table.tableEntry === undefined ? undefined : this.#byTable.get(table.tableEntry.dumpId);
    // Through a partition root, rows of this entry lie in other tables.
    if (entries === undefined || table.viaRoot || (table.size ?? 0) < WORTH_IT_BYTES) return;
    this.#ready.push(entries);
  }

  /** What can be built now and nobody builds yet: one table's indexes, the earliest loaded first. */
  take(): readonly TocEntry[] | undefined {
    const entries = this.#ready.shift();
    for (const entry of entries ?? []) this.#taken.add(entry);
    return entries;
  }

  isTaken(entry: TocEntry): boolean {
    return this.#taken.has(entry);
  }
}
