/**
 * Chosen tables under another schema's name. Rewriting definitions as text is unsafe (a name may stand in a string, a function body, a
 * column default), so the server does it: the definitions go into a scratch database, ALTER TABLE … SET SCHEMA moves the tables with
 * their indexes, constraints and owned sequences, and pg_dump writes them down again. The rows never pass through there.
 *
 * Limits: needs CREATEDB; bodies of functions are not touched, and what the tables refer to (types, functions, other tables) is referred
 * to where it was.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { CellarError } from '../../errors.ts';
import type { BackupContents, Entry } from '../engine.ts';
import { archiveText, parseArchiveToc } from './archive.ts';
import { connect, toolEnvironment } from './connection.ts';
import { scratchName } from './database-names.ts';
import { conninfo, planDefinitions, restoreDefinitions } from './definitions.ts';
import { definitionOptions } from './fill-database.ts';
import { locatorJson } from './locator.ts';
import type { Phases } from './phases.ts';
import type { Selection } from './restore-selection.ts';
import { connectBeside, createClauses, createScratch, dropScratch } from './scratch.ts';
import {
  parseCopyTarget,
  readStoredArchive,
  type StoredArchive,
  type StoredRows,
  storedText,
} from './stored-archive.ts';
import { type Target, withDatabase } from './target.ts';
import { runTool } from './tool-process.ts';
import { findTool } from './tools.ts';
import { quotedName } from './verify-restored.ts';

/** The chosen tables as a backup of their own, whose definitions are in `schema` and whose rows are those of `stored`. */
export async function moveIntoSchema(
  target: Target,
  stored: StoredArchive,
  selection: Selection,
  schema: string,
  phases: Phases,
  signal: AbortSignal,
): Promise<StoredArchive> {
  return await phases.run('move', async () => {
    const scratch = scratchName(target.database, `schema${randomBytes(4).toString('hex')}`);
    await using admin = await connectBeside(target, signal);
    try {
      await createScratch(
        admin,
        scratch,
        { target: target.database, state: 'loading' },
        createClauses(stored, admin.serverMajor),
      );
      return await moveIn(withDatabase(target, scratch), stored, selection, schema, signal);
    } finally {
      await dropScratch(target, scratch);
    }
  });
}

async function moveIn(
  scratch: Target,
  stored: StoredArchive,
  selection: Selection,
  schema: string,
  signal: AbortSignal,
): Promise<StoredArchive> {
  // Keys to other tables are left out: what they refer to is not here.
  const chosen = new Set([...selection.entries, ...selection.needed]);
  const plan = planDefinitions(stored, (entry) => chosen.has(entry));
  const definition = await definitionOptions(scratch, stored, { owners: 'keep', privileges: 'keep', jobs: 1 }, signal);
  for (const phase of ['pre-data', 'data', 'post-data', 'privileges'] as const) {
    await restoreDefinitions(scratch, stored, plan[phase], definition, signal);
  }
  const quoted = pg.escapeIdentifier(schema);
  // The connection ends before pg_dump begins, and pg_dump before the database is dropped.
  const oids = await (async () => {
    await using connection = await connect(scratch, signal);
    await connection.query(`CREATE SCHEMA IF NOT EXISTS ${quoted}`, `create the schema ${schema}`);
    const names = selection.tableEntries.map((entry) => ({
      schema: storedText(stored, entry.namespace),
      name: storedText(stored, entry.tag),
    }));
    const moved = new Map<string, { readonly schema: string; readonly name: string }>();
    for (const name of names) {
      const [row] = await connection.query('SELECT $1::regclass::oid AS oid', 'look up the table', [quotedName(name)]);
      if (name.schema !== schema) {
        await connection.query(
          `ALTER TABLE ${quotedName(name)} SET SCHEMA ${quoted}`,
          `move ${name.name} into ${schema}`,
        );
      }
      moved.set(row?.['oid'] ?? '', name);
    }
    return moved;
  })();
  const head = await dumpOf(
    scratch,
    schema,
    [...oids.values()].map(({ name }) => name),
    signal,
  );
  return await readStoredArchive(movedContents(stored, selection, head, oids, schema), signal);
}

async function dumpOf(
  scratch: Target,
  schema: string,
  tables: readonly string[],
  signal: AbortSignal,
): Promise<Buffer> {
  await using connection = await connect(scratch, signal);
  const pgDump = await findTool('pg_dump', connection.serverMajor, signal);
  const { output } = await runTool(
    {
      tool: pgDump,
      args: [
        '--format=custom',
        '--compress=0',
        '--no-password',
        ...tables.map((name) => `--table=${quotedName({ schema, name })}`),
        `--dbname=${conninfo(scratch.database)}`,
      ],
      env: toolEnvironment(scratch),
      input: false,
      stallTimeoutMs: 0,
    },
    signal,
  );
  return output;
}

/** A backup whose `schema` entry is the new head, with the rows of the old one under their new names. */
function movedContents(
  stored: StoredArchive,
  selection: Selection,
  archive: Buffer,
  oids: ReadonlyMap<string, { readonly schema: string; readonly name: string }>,
  schema: string,
): BackupContents {
  const toc = parseArchiveToc(archive);
  if (toc === undefined) throw new CellarError('tool-failed', 'pg_dump wrote an archive that is not whole.');
  const head: Entry = { name: 'schema', kind: 'schema', locator: {} };
  const sources = new Map<string, StoredRows>();
  const rows = toc.entries.flatMap((entry): readonly Entry[] => {
    if (archiveText(entry.description) !== 'TABLE DATA') return [];
    const from = oids.get(archiveText(entry.oid));
    const source = selection.rows.find(({ table }) => table.schema === from?.schema && table.name === from.name);
    if (source === undefined) return [];
    checkSameColumns(source, entry.copyStatement ?? Buffer.alloc(0));
    const name = `${schema}.${source.entry.name}`;
    sources.set(name, source);
    return [
      {
        name,
        kind: 'rows',
        table: { schema, name: source.table.name },
        rows: source.expectedRows,
        locator: locatorJson({ from: 'archive', dumpId: entry.dumpId }),
      },
    ];
  });
  return {
    source: stored.contents.source,
    entries: [head, ...rows],
    sizeOf: (entry) => (entry === head ? toc.length : sources.get(entry.name)?.size),
    async *open(entry, signal) {
      const source = sources.get(entry.name);
      if (source !== undefined) yield* stored.contents.open(source.entry, signal);
      else yield archive.subarray(0, toc.length);
    },
  };
}

/** The columns' list and order must be those that the stored rows have. */
function checkSameColumns(source: StoredRows, statement: Buffer): void {
  const target = parseCopyTarget(statement);
  const columns = target === undefined ? undefined : statement.subarray('COPY '.length + target.written.length);
  const stored = source.copyStatement.subarray('COPY '.length + source.copyTarget.length);
  if (columns?.equals(stored) === true) return;
  throw new CellarError(
    'mismatch',
    `The columns of ${source.entry.name} came out in another order in its new schema.`,
    {
      hint: 'Restore the table into its own schema.',
    },
  );
}
