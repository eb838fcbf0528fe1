/** `cellar probe`: connects to a database and says what a backup would hold and what it would lack. */
import type { ProbeReport } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { addOutputOptions, databaseUrl } from '../options.ts';
import { formatBytes, formatCount, formatThings } from '../output/format.ts';
import { sourceJson } from '../output/shapes.ts';
import type { Run } from '../run.ts';

export function registerProbe(program: Command, run: Run): void {
  addOutputOptions(program.command('probe'))
    .summary('check that a database can be backed up')
    .description(
      'Connects to a database and says what a backup of it would hold, and what stands against a complete one.',
    )
    .argument('[database-url]', 'the database (or DATABASE_URL)')
    .addHelpText(
      'after',
      `
Ends with exit code 1 when something stands against a complete backup.

Examples:
  $ cellar probe postgres://app@localhost/shop
  $ DATABASE_URL=postgres://app:secret@localhost/shop cellar probe`,
    )
    .action(run(probe));
}

async function probe(context: Context, argument: string | undefined): Promise<ExitCode> {
  const { engineForUrl } = await import('@cellar/core');
  const url = databaseUrl(context, argument);
  const engine = await engineForUrl(url);
  const report = await engine.probe(url, context.signal);
  context.output.result({ json: () => probeJson(report), text: () => probeText(context, report) });
  return report.problems.length === 0 ? EXIT.done : EXIT.failed;
}

function probeJson(report: ProbeReport) {
  return {
    source: sourceJson(report.source),
    size_bytes: report.sizeBytes,
    table_count: report.tableCount,
    estimated_rows: report.estimatedRows,
    problems: report.problems.map(({ what, todo }) => ({ what, todo })),
  };
}

function probeText(context: Context, report: ProbeReport): string {
  const { output } = context;
  const { source } = report;
  const facts = output.facts([
    ['database', `${source.database} at ${source.host}:${source.port}`],
    ['server', `${source.engine} ${source.serverVersion}, ${source.encoding}, ${source.collate}`],
    ['size', formatBytes(report.sizeBytes)],
    ['tables', `${formatThings(report.tableCount, 'table')}, about ${formatCount(report.estimatedRows)} rows`],
    ['tools', Object.entries(source.tools).map(([tool, version]) => `${tool} ${version}`)],
    ['extensions', source.extensions.length === 0 ? undefined : source.extensions.map((x) => `${x.name} ${x.version}`)],
    ['to know', source.warnings.length === 0 ? undefined : source.warnings],
  ]);
  if (report.problems.length === 0) {
    return `${facts}\n\n${output.style('green', 'A complete backup is possible as this user.')}`;
  }
  const problems = report.problems.map(({ what, todo }) => `  ${output.style('yellow', '!')} ${what} ${todo}`);
  return `${facts}\n\nThis stands against a complete backup:\n${problems.join('\n')}`;
}
