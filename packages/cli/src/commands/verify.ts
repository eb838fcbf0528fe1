/** `cellar verify`: checks that what is stored is what was written, and ends with exit code 3 when it is not. */
import type { CheckReport, PlainBackup, PlainVerdict } from '@cellar/core';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { ageKeysFor, openFolderAt, openRepositoryAt } from '../open.ts';
import { addOutputOptions, addPlaceOptions, type FolderOptions, placeOf, type RepositoryOptions } from '../options.ts';
import { formatBytes, formatCount, formatThings, printable } from '../output/format.ts';
import { percent } from '../parse.ts';
import type { Run } from '../run.ts';
import { UsageError } from '../usage-error.ts';

interface VerifyOptions extends RepositoryOptions, FolderOptions {
  readonly readData?: number;
}

interface CheckedFile {
  readonly backup: PlainBackup;
  readonly verdict: PlainVerdict;
}

export function registerVerify(program: Command, run: Run): void {
  const command = program
    .command('verify')
    .summary('check that stored backups are whole')
    .description(
      'Checks a repository: that every backup can be read and everything it refers to is there, and with --read-data that the bytes are those that were written. Plain files are always read to their end.',
    )
    .argument('[backup]', 'only this one: an id, a unique start of one, a file name, latest, or NAME@latest');
  addOutputOptions(
    addPlaceOptions(command).option(
      '--read-data [percent]',
      'read the stored bytes too: all, or with =PERCENT a random part of them',
      percent,
    ),
  )
    .addHelpText(
      'after',
      `
Ends with exit code 3 when damage was found; the report names the objects and the backups they harm.
Whether a backup restores is shown by restoring it: "cellar restore … --mode new --prove".

Examples:
  $ cellar verify --repo /srv/backups
  $ cellar verify --repo /srv/backups --read-data=10
  $ cellar verify latest --repo /srv/backups --read-data
  $ cellar verify --dir ./backups`,
    )
    .action(run(verify));
}

async function verify(context: Context, name: string | undefined, options: VerifyOptions): Promise<ExitCode> {
  const place = placeOf(context, options);
  if (place.kind === 'repository') return await verifyRepository(context, place.url, name, options);
  if (options.readData !== undefined && options.readData < 100) {
    throw new UsageError('A plain file is read as a whole or not at all.', 'Leave the percentage out.');
  }
  return await verifyFolder(context, place.path, name, options);
}

async function verifyRepository(
  context: Context,
  url: string,
  name: string | undefined,
  options: VerifyOptions,
): Promise<ExitCode> {
  const { output, signal } = context;
  await using opened = await openRepositoryAt(context, url, options);
  const { repository } = opened;
  const id = name === undefined ? undefined : (await repository.findBackup(name, signal)).id;
  using progress = context.startProgress();
  const report = await repository.check(
    {
      level: options.readData === undefined ? 'structure' : 'data',
      ...(options.readData === undefined ? {} : { percent: options.readData }),
      ...(id === undefined ? {} : { backups: [id] }),
      onProgress: progress.onProgress,
    },
    signal,
  );
  progress.stop();
  output.result({
    json: () => reportJson(report),
    text: () => reportText(context, report, options),
    quiet: () => report.findings.map(({ object }) => object).join('\n'),
  });
  return report.findings.length === 0 ? EXIT.done : EXIT.damaged;
}

function reportJson(report: CheckReport) {
  const { findings, checked, unreferenced, unknown } = report;
  return {
    damaged: findings.length > 0,
    findings: findings.map(({ object, problem, backups, entries }) => ({
      object,
      problem,
      backups: [...backups],
      entries: entries.map(({ backup, entry }) => ({ backup, entry })),
    })),
    checked: { backups: checked.backups, packs: checked.packs, read_bytes: checked.bytesRead },
    unreferenced: { packs: unreferenced.packs, bytes: unreferenced.bytes },
    unknown_objects: [...unknown],
  };
}

function reportText(context: Context, report: CheckReport, options: VerifyOptions): string {
  const { output } = context;
  const { findings, checked, unreferenced, unknown } = report;
  const read = options.readData === undefined ? '' : `, ${formatBytes(checked.bytesRead)} read`;
  const scope = `${formatThings(checked.backups, 'backup')}, ${formatThings(checked.packs, 'pack')}${read}`;
  const lines =
    findings.length === 0
      ? [`${output.style('green', 'No damage found')}: ${scope}.`]
      : [`${output.style('red', `Damage found in ${formatThings(findings.length, 'object')}`)}: ${scope}.`];
  for (const { object, problem, backups, entries } of findings) {
    lines.push('', `  ${output.style('bold', object)}: ${printable(problem)}`);
    for (const backup of backups) {
      const harmed = entries.filter((entry) => entry.backup === backup).map(({ entry }) => printable(entry));
      lines.push(`    harms the backup ${backup}${harmed.length === 0 ? '' : ` (${harmed.join(', ')})`}`);
    }
  }
  if (findings.length > 0) {
    lines.push(
      '',
      'Other backups are not harmed. Take a new one now, and look after the disk: "cellar show" tells what a harmed one held.',
    );
  }
  if (unreferenced.packs > 0) {
    lines.push(
      `${formatThings(unreferenced.packs, 'pack')} (${formatBytes(unreferenced.bytes)}) belong to no backup, which is no damage: "cellar cleanup" frees them.`,
    );
  }
  if (unknown.length > 0) lines.push(`Not ours, and left alone: ${unknown.map(printable).join(', ')}.`);
  if (options.readData === undefined && findings.length === 0) {
    lines.push('Only the structure was looked at: --read-data reads the stored bytes too.');
  }
  return lines.join('\n');
}

async function verifyFolder(
  context: Context,
  path: string,
  name: string | undefined,
  options: VerifyOptions,
): Promise<ExitCode> {
  const { output, signal } = context;
  const { engineById } = await import('@cellar/core');
  await using opened = await openFolderAt(path);
  const { folder } = opened;
  const backups = name === undefined ? (await folder.list(signal)).backups : [await folder.find(name, signal)];
  using progress = context.startProgress();
  const checked: CheckedFile[] = [];
  for (const backup of backups) {
    const item = backup.name.fileName;
    progress.onProgress({ phase: 'verify', item, done: checked.length, total: backups.length, exact: true });
    const engine = await engineById(backup.facts?.source.engine ?? 'postgres');
    const verdict = await folder.verify(backup, engine, await keysIfGiven(context, backup, options), signal);
    checked.push({ backup, verdict });
  }
  progress.stop();
  const damaged = checked.filter(({ verdict }) => verdict.findings.length > 0);
  output.result({
    json: () => ({
      damaged: damaged.length > 0,
      files: checked.map(({ backup, verdict }) => ({
        filename: backup.name.fileName,
        depth: verdict.depth,
        findings: [...verdict.findings],
        table_count: verdict.script?.tables.length ?? null,
        row_count: verdict.script?.tables.reduce((sum, table) => sum + table.rows, 0) ?? null,
      })),
    }),
    text: () => filesText(context, checked),
    quiet: () => damaged.map(({ backup }) => backup.name.fileName).join('\n'),
  });
  return damaged.length === 0 ? EXIT.done : EXIT.damaged;
}

/** Without a secret an encrypted file is still compared with its digest, so nobody is asked for one. */
async function keysIfGiven(context: Context, backup: PlainBackup, options: VerifyOptions) {
  const { environment } = context;
  const given = options.identity ?? options.passphraseFile ?? environment.passphrase ?? environment.passphraseFile;
  return given === undefined ? { identities: [], passphrases: [] } : await ageKeysFor(context, backup, options);
}

function filesText(context: Context, checked: readonly CheckedFile[]): string {
  const { output } = context;
  if (checked.length === 0) return 'There are no backups to verify.';
  return checked
    .flatMap(({ backup, verdict }) => {
      const { script, findings, depth } = verdict;
      const rows = script?.tables.reduce((sum, table) => sum + table.rows, 0) ?? 0;
      const held =
        script === undefined ? '' : `, ${formatThings(script.tables.length, 'table')}, ${formatCount(rows)} rows`;
      const how = depth === 'bytes' ? ' (encrypted, no key given: only its digest was compared)' : held;
      const state = findings.length === 0 ? output.style('green', 'whole') : output.style('red', 'DAMAGED');
      return [
        `${backup.name.fileName}: ${state}${findings.length === 0 ? how : ''}`,
        ...findings.map((finding) => `    ${printable(finding)}`),
      ];
    })
    .join('\n');
}
