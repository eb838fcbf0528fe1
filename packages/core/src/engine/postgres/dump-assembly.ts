/**
 * The parts of a dump, when all have come, as the entries of a backup: each table of the snapshot exactly once and whole, or an error.
 */
import { CellarError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import type { Entry, PartResult, SourceFacts } from '../engine.ts';
import type { DumpPlan } from './dump-plan.ts';
import { factsOf, type PartFacts } from './dump-task.ts';
import { locatorJson, rowsEntryName } from './locator.ts';
import type { SourceTable } from './tables.ts';

type Facts<Part extends PartFacts['part']> = Extract<PartFacts, { readonly part: Part }>;

interface Known<Part extends PartFacts['part']> {
  readonly result: PartResult;
  readonly facts: Facts<Part>;
}

/** Throws `mismatch`, saying what is missing or too much. */
export function assembleEntries(
  source: SourceFacts,
  tables: readonly SourceTable[],
  plan: DumpPlan,
  parts: readonly PartResult[],
): { readonly source: SourceFacts; readonly entries: readonly Entry[] } {
  const schemas = partsOf(parts, 'schema');
  const schema = schemas[0]?.facts;
  if (schema === undefined || schemas.length > 1) throw incomplete('the definitions came not exactly once');
  const archived = archivedRows(parts);
  const copied = copiedRows(parts);
  if (archived.size + partsOf(parts, 'large-objects').length !== schema.blocks) {
    throw incomplete('not every part of pg_dump came exactly once');
  }
  checkTables(tables, plan, schema, archived, copied);

  const entries: Entry[] = [
    ...partsOf(parts, 'globals').map(({ result }): Entry => ({ name: result.entry, kind: 'globals', locator: {} })),
    { name: 'schema', kind: 'schema', locator: { archiveVersion: schema.archiveVersion } },
    ...[...archived.values()]
      .sort((a, b) => a.facts.position - b.facts.position)
      .map(({ result, facts }) => rowsEntry([result], locatorJson({ from: 'archive', dumpId: facts.dumpId }))),
    ...schema.tables.flatMap(({ oid, dumpId }) => {
      const segments = copied.get(oid);
      const first = segments?.[0];
      if (segments === undefined || first === undefined) return [];
      const { copyStatement } = first.facts;
      const locator = locatorJson({ from: 'copy', tableDumpId: dumpId, tableOid: oid, copyStatement });
      return [
        rowsEntry(
          segments.map(({ result }) => result),
          locator,
        ),
      ];
    }),
    ...largeObjects(parts),
  ];
  const toolWarnings = parts.map(factsOf).flatMap((facts) => ('warnings' in facts ? facts.warnings : []));
  const warnings = [...new Set([...source.warnings, ...toolWarnings])];
  return { source: { ...source, schemaDigest: schema.schemaDigest, warnings }, entries };
}

function partsOf<Part extends PartFacts['part']>(parts: readonly PartResult[], kind: Part): readonly Known<Part>[] {
  return parts.flatMap((result) => {
    const facts = factsOf(result);
    return facts.part === kind ? [{ result, facts: facts as Facts<Part> }] : [];
  });
}

function archivedRows(parts: readonly PartResult[]): ReadonlyMap<number, Known<'archived-rows'>> {
  const byOid = new Map<number, Known<'archived-rows'>>();
  for (const known of partsOf(parts, 'archived-rows')) {
    if (byOid.has(known.facts.oid)) throw incomplete(`the rows of ${known.result.entry} came twice`);
    byOid.set(known.facts.oid, known);
  }
  return byOid;
}

/** Each table's segments, in order and without a gap. */
function copiedRows(parts: readonly PartResult[]): ReadonlyMap<number, readonly Known<'copied-rows'>[]> {
  const byOid = new Map<number, Known<'copied-rows'>[]>();
  const inOrder = [...partsOf(parts, 'copied-rows')].sort((a, b) => a.result.segment - b.result.segment);
  for (const known of inOrder) {
    const segments = byOid.get(known.facts.oid) ?? [];
    if (known.result.segment !== segments.length) {
      throw incomplete(`segment ${segments.length} of ${known.result.entry} did not come, or came twice`);
    }
    segments.push(known);
    byOid.set(known.facts.oid, segments);
  }
  return byOid;
}

function checkTables(
  tables: readonly SourceTable[],
  plan: DumpPlan,
  schema: Facts<'schema'>,
  archived: ReadonlyMap<number, unknown>,
  copied: ReadonlyMap<number, readonly unknown[]>,
): void {
  const defined = new Set(schema.tables.map(({ oid }) => oid));
  const locked = new Set(tables.map(({ oid }) => oid));
  const planned = new Map(plan.copied.map(({ table, segments }) => [table.oid, segments]));
  for (const oid of defined) {
    if (!locked.has(oid)) throw incomplete(`pg_dump dumped a table (oid ${oid}) that was not locked`);
  }
  for (const oid of copied.keys()) {
    if (!planned.has(oid)) throw incomplete(`rows of a table (oid ${oid}) came that nobody asked for`);
  }
  for (const table of tables) {
    const name = rowsEntryName(table.schema, table.name);
    const cameArchived = archived.has(table.oid);
    const segments = planned.get(table.oid);
    if (!table.ofExtension && !defined.has(table.oid)) throw incomplete(`the definition of ${name} did not come`);
    if (segments !== undefined) {
      if (copied.get(table.oid)?.length !== segments) throw incomplete(`the rows of ${name} did not come whole`);
      if (cameArchived) throw incomplete(`the rows of ${name} came twice`);
    } else if (cameArchived && !table.withData) {
      throw incomplete(`the rows of ${name} came although they were to be left out`);
    } else if (!cameArchived && table.withData && !table.ofExtension) {
      // An extension's rows are part of a dump only where the extension itself is.
      throw incomplete(`the rows of ${name} did not come`);
    }
  }
}

function rowsEntry(segments: readonly PartResult[], locator: Json): Entry {
  const [first] = segments;
  if (first === undefined) throw new Error('An entry has at least one segment');
  return {
    name: first.entry,
    kind: 'rows',
    ...(first.table === undefined ? {} : { table: first.table }),
    rows: segments.reduce((sum, { rows }) => sum + (rows ?? 0), 0),
    locator,
  };
}

function largeObjects(parts: readonly PartResult[]): readonly Entry[] {
  const blocks = [...partsOf(parts, 'large-objects')].sort((a, b) => a.result.segment - b.result.segment);
  if (blocks.length === 0) return [];
  blocks.forEach(({ result }, index) => {
    if (result.segment !== index) throw incomplete('a piece of the large objects did not come, or came twice');
  });
  return [
    {
      name: 'large-objects',
      kind: 'large-objects',
      rows: blocks.reduce((sum, { result }) => sum + (result.rows ?? 0), 0),
      locator: locatorJson({ dumpIds: blocks.map(({ facts }) => facts.dumpId) }),
    },
  ];
}

function incomplete(what: string): CellarError {
  return new CellarError('mismatch', `The dump is not whole: ${what}.`, {
    hint: 'Nothing was kept as a backup. Try again; should it happen again, please report it with the tables and filters involved.',
  });
}
