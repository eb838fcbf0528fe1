/** `cellar export`: a backup as one file of PostgreSQL's stock tools, so that nobody depends on Cellar to restore it. */
import type { ExportAs } from '@cellar/core';
import { type Command, Option } from 'commander';
import type { Context } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { openBackup } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatDuration } from '../output/format.ts';
import { filled } from '../parse.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface ExportOptions extends RepositoryOptions, FolderOptions {
  readonly as: ExportAs;
  readonly output: string;
  readonly force?: boolean;
}

export function registerExport(program: Command, run: Run): void {
  const command = program
    .command('export')
    .summary('write a backup as a file of the stock tools')
    .description('Writes a backup as plain SQL for psql, or as an archive for pg_restore.')
    .argument('<backup>', 'an id, a unique start of one, a file name, latest, or NAME@latest')
    .addOption(
      new Option('--as <format>', 'sql, sql.gz, or dump for pg_restore')
        .choices(['sql', 'sql.gz', 'dump'])
        .makeOptionMandatory(),
    );
  addPlaceOptions(command)
    .option('-o, --output <file>', 'the file to write; - for stdout', filled, '-')
    .option('-f, --force', 'replace the file if it exists');
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ cellar export latest --repo /srv/backups --as sql | psql -v ON_ERROR_STOP=1 rehearsal
  $ cellar export latest --repo /srv/backups --as sql.gz -o shop.sql.gz
  $ cellar export shop@latest --repo /srv/backups --as dump -o shop.dump && pg_restore -l shop.dump`,
    )
    .action(run(exportBackup));
}

async function exportBackup(context: Context, name: string, options: ExportOptions): Promise<ExitCode> {
  const { ClosedPipe, fileExists, writeFileWhole, writeStdout } = await import('../output/byte-sink.ts');
  const toStdout = options.output === '-';
  if (toStdout && context.stdout.isTTY && options.as !== 'sql') {
    throw new UsageError('A terminal cannot show this format.', 'Name a file with --output, or write into a pipe.');
  }
  if (!toStdout && !options.force && (await fileExists(options.output))) {
    throw new UsageError(`The file ${options.output} exists.`, 'Give --force to replace it.');
  }
  const core = await import('@cellar/core');
  await using backup = await openBackup(context, name, options);
  using progress = context.startProgress();
  const startedAt = performance.now();
  const { signal, stdout } = context;
  const source = core.exportBackup(backup.contents, options.as, signal);
  let bytes = 0;
  const counted = async function* () {
    for await (const part of source) {
      bytes += part.length;
      // A bar would be drawn into the text that the terminal shows.
      if (!toStdout || !stdout.isTTY) progress.onProgress({ phase: 'export', bytes });
      yield part;
    }
  };
  try {
    if (toStdout) await writeStdout(stdout, counted(), signal);
    else await writeFileWhole(options.output, counted(), signal);
  } catch (error) {
    if (error instanceof ClosedPipe) return EXIT.failed;
    throw error;
  }
  progress.stop();
  if (toStdout) return EXIT.done;
  const took = performance.now() - startedAt;
  context.output.result({
    json: () => ({
      backup: backup.title,
      file: options.output,
      format: options.as,
      size_bytes: bytes,
      duration_seconds: took / 1000,
    }),
    text: () =>
      `Wrote ${backup.title} as ${options.as} to ${options.output}: ${formatBytes(bytes)} in ${formatDuration(took)}.`,
    quiet: () => options.output,
  });
  return EXIT.done;
}
