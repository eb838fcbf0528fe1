/**
 * A dump of a PostgreSQL database as one script of stock pg_dump, for plain files. It is taken in a locked and held snapshot as a dump in
 * parts is, so that what came can be compared with what was there: every table's rows, once, and no others.
 */
import { CellarError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import type { Dump, DumpOptions, PartResult, ScriptLocator } from '../engine.ts';
import { toolEnvironment } from './connection.ts';
import { filterArguments, refuseUntranslatable } from './dump.ts';
import type { PostgresTask } from './dump-task.ts';
import { rowsEntryName } from './locator.ts';
import { knowsEncoding } from './script-encoding.ts';
import type { ScriptFacts } from './script-task.ts';
import { openSnapshot } from './snapshot.ts';
import { readSourceFacts } from './source-facts.ts';
import type { SourceTable } from './tables.ts';
import { parseTarget } from './target.ts';
import { findTool } from './tools.ts';

/** See `Engine.openScriptDump`. Throws `invalid-input` when roles and tablespaces are asked for: a script is of one database. */
export async function openScriptDump(url: string, options: DumpOptions, signal: AbortSignal): Promise<Dump> {
  if (options.globals) {
    throw new CellarError(
      'invalid-input',
      'A plain file holds one database, without the roles and tablespaces of its server.',
      {
        hint: 'Take a backup into a repository to have them too, or keep the output of pg_dumpall --globals-only beside it.',
      },
    );
  }
  const target = parseTarget(url);
  const snapshot = await openSnapshot(target, options, signal);
  try {
    const { connection, tables } = snapshot;
    const tool = await findTool('pg_dump', connection.serverMajor, signal);
    const facts = await readSourceFacts(connection, [tool]);
    refuseUntranslatable(options.filters, facts.source.encoding);
    const task: PostgresTask = {
      engine: 'postgres',
      title: 'the whole database',
      estimatedBytes: tables.reduce((sum, table) => sum + (table.withData ? table.bytes : 0), facts.largeObjectBytes),
      spec: {
        kind: 'script',
        run: {
          tool,
          args: [
            '--format=plain',
            '--no-password',
            `--snapshot=${snapshot.id}`,
            `--lock-wait-timeout=${Math.max(0, Math.round(options.lockTimeoutMs))}`,
            ...filterArguments(options.filters),
          ],
          env: { ...toolEnvironment(target), PGOPTIONS: '-c bytea_output=hex -c jit=off' },
          input: false,
          stallTimeoutMs: options.stallTimeoutMs,
        },
      },
    };
    return {
      source: facts.source,
      tasks: [task],
      lost: snapshot.lost,
      async finish(parts) {
        await snapshot.verifyHeld();
        const [result] = parts;
        if (result === undefined || parts.length > 1) throw incomplete('the script came not exactly once');
        const { script, warnings } = factsOf(result);
        compareTables(tables, script, facts.source.encoding);
        const source = { ...facts.source, warnings: [...new Set([...facts.source.warnings, ...warnings])] };
        const locator = script as unknown as Json;
        return { source, entries: [{ name: 'script', kind: 'script', rows: result.rows ?? 0, locator }] };
      },
      async [Symbol.asyncDispose]() {
        await snapshot[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await snapshot[Symbol.asyncDispose]();
    throw error;
  }
}

function factsOf(result: PartResult): ScriptFacts {
  return result.locator as unknown as ScriptFacts;
}

/** Throws `mismatch` when a table of the snapshot is missing from the script, or the other way round. */
function compareTables(tables: readonly SourceTable[], script: ScriptLocator, encoding: string): void {
  // Names in an encoding that JavaScript cannot read would differ for no reason.
  if (!knowsEncoding(encoding)) return;
  const locked = new Set(tables.map(({ schema, name }) => rowsEntryName(schema, name)));
  const came = new Set(script.tables.map(({ schema, name }) => rowsEntryName(schema, name)));
  for (const name of came) {
    if (!locked.has(name)) throw incomplete(`pg_dump dumped ${name}, which was not locked`);
  }
  for (const { schema, name, withData, copiable, columns, ofExtension } of tables) {
    const entry = rowsEntryName(schema, name);
    if (!withData && came.has(entry)) {
      // Rows of some partitions are written in the name of their root, which has none of its own.
      if (tables.some((table) => table.kind === 'p' && table.schema === schema && table.name === name)) continue;
      throw incomplete(`the rows of ${entry} came although they were to be left out`);
    }
    // What is not copiable (rows loaded by the root, extensions' tables) may rightly be missing, except for having no columns.
    if (withData && !ofExtension && (copiable || columns === '') && !came.has(entry))
      throw incomplete(`the rows of ${entry} did not come`);
  }
}

function incomplete(what: string): CellarError {
  return new CellarError('mismatch', `The dump is not whole: ${what}.`, {
    hint: 'Nothing was kept as a backup. Try again; should it happen again, please report it with the tables and filters involved.',
  });
}
