/** A look at a database before it is ever backed up: what is there, and what a backup as this user would miss. */
import { isCellarError } from '../../errors.ts';
import { NO_FILTERS, type ProbeReport } from '../engine.ts';
import { connect } from './connection.ts';
import { someNames } from './snapshot.ts';
import { type FactsRead, readSourceFacts } from './source-facts.ts';
import { listTables, type SourceTable } from './tables.ts';
import { parseTarget } from './target.ts';
import { findTool, type Tool, type ToolName } from './tools.ts';

type Problem = ProbeReport['problems'][number];

const TOOLS: readonly ToolName[] = ['pg_dump', 'pg_restore', 'psql', 'pg_dumpall'];

export async function probe(url: string, signal: AbortSignal): Promise<ProbeReport> {
  await using connection = await connect(parseTarget(url), signal);
  const { tools, problems: missingTools } = await lookForTools(connection.serverMajor, signal);
  const facts = await readSourceFacts(connection, tools);
  const tables = await listTables(connection, NO_FILTERS, 'estimated');
  return {
    source: facts.source,
    sizeBytes: facts.databaseBytes,
    tableCount: tables.length,
    estimatedRows: tables.reduce((sum, { kind, estimatedRows }) => sum + (kind === 'r' ? estimatedRows : 0), 0),
    problems: [
      ...missingTools,
      ...serverProblems(connection.serverMajor),
      ...tableProblems(tables),
      ...otherProblems(facts),
    ],
  };
}

async function lookForTools(
  serverMajor: number,
  signal: AbortSignal,
): Promise<{ tools: readonly Tool[]; problems: readonly Problem[] }> {
  const tools: Tool[] = [];
  const problems: Problem[] = [];
  for (const name of TOOLS) {
    try {
      tools.push(await findTool(name, serverMajor, signal));
    } catch (error) {
      if (!isCellarError(error, 'tool-missing')) throw error;
      problems.push({ what: error.message, todo: error.hint ?? '' });
    }
  }
  return { tools, problems };
}

function serverProblems(major: number): readonly Problem[] {
  if (major >= 13) return [];
  return [
    {
      what: `The server is PostgreSQL ${major}; Cellar is made for 13 and later.`,
      todo: 'Upgrade the server, or back it up with pg_dump until then.',
    },
  ];
}

function tableProblems(tables: readonly SourceTable[]): readonly Problem[] {
  const problems: Problem[] = [];
  const unreadable = tables.filter((table) => !table.readable);
  if (unreadable.length > 0) {
    problems.push({
      what: `This user may not read ${someNames(unreadable)}: a backup will be refused.`,
      todo: 'GRANT pg_read_all_data TO the user (PostgreSQL 14 and later), or SELECT on the tables and USAGE on their schemas; or leave them out with a filter.',
    });
  }
  const hidden = tables.filter((table) => table.withData && table.rowsHidden);
  if (hidden.length > 0) {
    problems.push({
      what: `Row security hides rows of ${someNames(hidden)} from this user: a backup will be refused.`,
      todo: 'ALTER ROLE the user BYPASSRLS, or connect as a superuser; or leave the rows out with a filter.',
    });
  }
  return problems;
}

function otherProblems({ details, unreadableLargeObjects, unloggedTables }: FactsRead): readonly Problem[] {
  const problems: Problem[] = [];
  if (unreadableLargeObjects > 0) {
    problems.push({
      what: `This user may not read ${unreadableLargeObjects} large objects (pg_read_all_data does not cover them): a backup will be refused.`,
      todo: 'Connect as their owner or a superuser, or GRANT SELECT ON LARGE OBJECT each of them.',
    });
  }
  if (!details.superuser && details.subscriptions.length > 0) {
    problems.push({
      what: `This user may not read the subscriptions ${details.subscriptions.join(', ')}: they will not be in the backup.`,
      todo: 'Connect as a superuser, or note how they were created.',
    });
  }
  if (!details.superuser) {
    problems.push({
      what: 'Passwords of roles are for superusers only: a backup of the globals will be without them.',
      todo: 'Connect as a superuser if roles are to come back with their passwords.',
    });
  }
  if (details.standby && unloggedTables > 0) {
    problems.push({
      what: `The server is a standby, which has no rows of the ${unloggedTables} unlogged tables.`,
      todo: 'Back up the primary, or make those tables logged, if their rows matter.',
    });
  }
  if (details.preparedTransactions.length > 0) {
    problems.push({
      what: `Prepared transactions are open: ${details.preparedTransactions.join(', ')}. What they did is not in a backup yet.`,
      todo: 'COMMIT PREPARED or ROLLBACK PREPARED those that nobody needs any more.',
    });
  }
  return problems;
}
