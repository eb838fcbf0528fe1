/** `cellar cleanup`: deletes backups by the rules of retention, and gives back the space that no backup needs any more. */
import type { CleanupReport, RetentionDecision, RetentionPolicy } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { EXIT, EXIT_BY_ERROR, type ExitCode } from '../exit-codes.ts';
import { openFolderAt, openRepositoryAt } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, placeOf, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatThings, formatTime, printable } from '../output/format.ts';
import { size, timeZone, wholeNumber } from '../parse.ts';
import type { Run } from '../run.ts';

interface CleanupOptions extends RepositoryOptions, FolderOptions {
  readonly keepDays?: number;
  readonly keepLast?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  readonly keepSize?: number;
  readonly timeZone?: string;
  readonly dryRun?: boolean;
}

export function registerCleanup(program: Command, run: Run): void {
  const command = program
    .command('cleanup')
    .summary('delete backups by rules, and free space')
    .description(
      'Deletes the backups that no rule keeps, for each database by itself. The newest good backup of a database and held ones always stay. In a repository it also frees what no backup uses any more.',
    );
  addPlaceOptions(command)
    .option('--keep-last <n>', 'keep the newest n', wholeNumber(1, 1_000_000))
    .option('--keep-days <n>', 'keep what is not older than n days', wholeNumber(1, 100_000))
    .option('--keep-daily <n>', 'keep the newest of each of the last n days that have one', wholeNumber(1, 1_000_000))
    .option('--keep-weekly <n>', 'the same by weeks', wholeNumber(1, 1_000_000))
    .option('--keep-monthly <n>', 'the same by months', wholeNumber(1, 1_000_000))
    .option('--keep-yearly <n>', 'the same by years', wholeNumber(1, 1_000_000))
    .option('--keep-size <size>', "keep no more than this of a database's backups, e.g. 200GB", size)
    .option('--time-zone <zone>', "where days begin, e.g. Europe/Berlin (default: this machine's)", timeZone)
    .option('--dry-run', 'show what would be done, with the reasons, and change nothing');
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Without any rule no backup is deleted; in a repository only space is freed.

Examples:
  $ cellar cleanup --repo /srv/backups --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  $ cellar cleanup --repo /srv/backups --keep-days 30
  $ cellar cleanup --dir ./backups --keep-last 10 --keep-size 50GB`,
    )
    .action(run(runCleanup));
}

async function runCleanup(context: Context, options: CleanupOptions): Promise<ExitCode> {
  const { cleanup, folderPlace, repositoryPlace } = await import('@cellar/core');
  const { output, signal } = context;
  const place = placeOf(context, options);
  await using opened =
    place.kind === 'repository' ? await openRepositoryAt(context, place.url, options) : await openFolderAt(place.path);
  using progress = context.startProgress();
  const zone = options.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  const report = await cleanup(
    'repository' in opened ? repositoryPlace(opened.repository) : folderPlace(opened.folder),
    {
      policy: policyOf(options),
      now: new Date(),
      timeZone: zone,
      dryRun: options.dryRun ?? false,
      onProgress: progress.onProgress,
      signal,
    },
  );
  progress.stop();
  const { notCollected } = report;
  for (const { id, problem } of report.damaged) {
    output.warn(`${id} is damaged, and no other backup was given up for it: ${printable(problem)}`);
  }
  if (notCollected !== undefined) output.warn(printable(`${notCollected.message} ${notCollected.hint ?? ''}`.trim()));
  output.result({
    json: () => reportJson(report, zone, options.dryRun ?? false),
    text: () => reportText(context, report, zone, options),
    quiet: () => report.deleted.map(({ id }) => id).join('\n'),
  });
  if (notCollected !== undefined) return EXIT_BY_ERROR[notCollected.code];
  return report.damaged.length === 0 ? EXIT.done : EXIT.damaged;
}

function policyOf(options: CleanupOptions): RetentionPolicy {
  const { keepDays, keepLast, keepDaily, keepWeekly, keepMonthly, keepYearly, keepSize } = options;
  const rules = { keepDays, keepLast, keepDaily, keepWeekly, keepMonthly, keepYearly, maxTotalBytes: keepSize };
  return Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== undefined));
}

function reportJson(report: CleanupReport, zone: string, dryRun: boolean) {
  const { decisions, deleted, damaged, orphans, garbage, notCollected } = report;
  return {
    dry_run: dryRun,
    time_zone: zone,
    decisions: decisions.map(({ backup, action, reasons }) => ({
      id: backup.id,
      name: backup.database,
      part: backup.part ?? null,
      created_at: backup.createdAt.toISOString(),
      size_bytes: backup.sizeBytes,
      action,
      reasons: [...reasons],
    })),
    deleted_count: deleted.length,
    deleted: deleted.map(({ id }) => id),
    damaged: damaged.map(({ id, problem }) => ({ id, problem })),
    orphans: [...orphans],
    not_collected: notCollected?.message ?? null,
    garbage:
      garbage === undefined
        ? null
        : {
            freed_packs: garbage.deleted.packs,
            freed_bytes: garbage.deleted.bytes,
            marked_packs: garbage.condemned.packs,
            marked_bytes: garbage.condemned.bytes,
            young_packs: garbage.young.packs,
            young_bytes: garbage.young.bytes,
          },
  };
}

function reportText(context: Context, report: CleanupReport, zone: string, options: CleanupOptions): string {
  const { decisions, deleted, orphans, garbage, notCollected } = report;
  const dryRun = options.dryRun ?? false;
  const parts: string[] = [];
  if (dryRun || deleted.length > 0) parts.push(decisionsTable(context, decisions, zone), '');
  const leaving = decisions.filter(({ action }) => action === 'delete');
  const bytes = leaving.reduce((sum, { backup }) => sum + backup.sizeBytes, 0);
  const kept = decisions.length - leaving.length;
  const inFolder = garbage === undefined && notCollected === undefined;
  if (Object.keys(policyOf(options)).length === 0) parts.push('No rule was given, so no backup is deleted.');
  else if (dryRun)
    parts.push(`Would delete ${formatThings(leaving.length, 'backup')} and keep ${kept}. Nothing was changed.`);
  else if (inFolder)
    parts.push(`Deleted ${formatThings(deleted.length, 'backup')} (${formatBytes(bytes)} freed), kept ${kept}.`);
  else parts.push(`Deleted ${formatThings(deleted.length, 'backup')}, kept ${kept}.`);
  if (orphans.length > 0) {
    const what = `${formatThings(orphans.length, 'sidecar')} whose file is gone: ${orphans.map(printable).join(', ')}.`;
    parts.push(`${dryRun ? 'Would remove' : 'Removed'} ${what}`);
  }
  if (garbage !== undefined) parts.push(garbageText(garbage, dryRun));
  return parts.join('\n');
}

function garbageText(garbage: NonNullable<CleanupReport['garbage']>, dryRun: boolean): string {
  const { deleted, condemned, young } = garbage;
  const freed = `${formatBytes(deleted.bytes)} ${dryRun ? 'would be' : 'were'} freed`;
  const later = condemned.bytes + young.bytes;
  return later === 0
    ? `Space: ${freed}.`
    : `Space: ${freed}; ${formatBytes(later)} that no backup uses will follow when they have rested: ` +
        `${formatBytes(condemned.bytes)} in two days, ${formatBytes(young.bytes)} after a week and two days.`;
}

function decisionsTable(context: Context, decisions: readonly RetentionDecision[], zone: string): string {
  return context.output.table<RetentionDecision>(
    [
      { head: '', value: ({ action }) => action },
      { head: 'backup', value: ({ backup }) => backup.id },
      {
        head: 'database',
        value: ({ backup: { database, part } }) => (part === undefined ? database : `${database} (${part})`),
        drop: 2,
      },
      { head: 'taken', value: ({ backup }) => formatTime(backup.createdAt, zone) },
      { head: 'size', value: ({ backup }) => formatBytes(backup.sizeBytes), align: 'right', drop: 1 },
      { head: 'why', value: ({ reasons }) => reasons.join(', '), stretch: true },
    ],
    decisions,
  );
}
