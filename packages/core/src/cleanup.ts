/**
 * The verb: apply a retention policy to a repository or a folder of plain files.
 *
 *   list ─▶ decide ─▶ look at the newest good backup of each database that would lose one ─▶ (decide again) ─▶ delete ─▶ collect
 *
 * The promise that the newest good backup stays is worth what "good" is worth. So before anything of a database is deleted, the
 * backup that the others are given up for is looked at: one that is damaged counts as failed, and the decision is made again.
 */
import { CellarError } from './errors.ts';
import { NO_AGE_KEYS } from './plain/age.ts';
import type { PlainFolder } from './plain/plain-folder.ts';
import type { OnProgress } from './progress.ts';
import { engineById } from './registry.ts';
import type { CollectReport } from './repository/collect.ts';
import type { Repository } from './repository/repository.ts';
import {
  decideRetention,
  type RetainedBackup,
  type RetentionDecision,
  type RetentionPolicy,
} from './retention/policy.ts';

/** Where backups are, as far as a cleanup is concerned. */
export interface CleanupPlace {
  list(signal: AbortSignal): Promise<readonly RetainedBackup[]>;
  /** Why this backup cannot be relied on, or undefined when nothing was found against it. */
  problemOf(backup: RetainedBackup, signal: AbortSignal): Promise<string | undefined>;
  remove(backup: RetainedBackup, signal: AbortSignal): Promise<void>;
  /** Gives back the space of what no backup needs any more, where that is a step of its own. */
  collect?(dryRun: boolean, onProgress: OnProgress, signal: AbortSignal): Promise<CollectReport>;
}

export interface CleanupRequest {
  readonly policy: RetentionPolicy;
  readonly now: Date;
  /** IANA name: in it days, weeks, months and years begin. */
  readonly timeZone: string;
  /** Decides and says, and changes nothing. */
  readonly dryRun: boolean;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

export interface CleanupReport {
  readonly decisions: readonly RetentionDecision[];
  /** Backups that were taken for good and are not, with what is wrong. */
  readonly damaged: readonly { readonly id: string; readonly problem: string }[];
  /** What was deleted; empty on a dry run. */
  readonly deleted: readonly RetainedBackup[];
  readonly garbage: CollectReport | undefined;
}

export async function cleanup(place: CleanupPlace, request: CleanupRequest): Promise<CleanupReport> {
  const { dryRun, onProgress, signal } = request;
  const { decisions, damaged } = await decide(place, request);
  const deleted: RetainedBackup[] = [];
  if (!dryRun) {
    const leaving = decisions.filter(({ action }) => action === 'delete');
    for (const { backup } of leaving) {
      onProgress({ phase: 'delete', item: backup.id, done: deleted.length, total: leaving.length });
      await place.remove(backup, signal);
      deleted.push(backup);
    }
  }
  const garbage = await place.collect?.(dryRun, onProgress, signal);
  return { decisions, damaged, deleted, garbage };
}

/** Decides until every backup that others are given up for has been looked at and found good. */
async function decide(
  place: CleanupPlace,
  request: CleanupRequest,
): Promise<Pick<CleanupReport, 'decisions' | 'damaged'>> {
  const { policy, now, timeZone, onProgress, signal } = request;
  let backups = await place.list(signal);
  const damaged: { readonly id: string; readonly problem: string }[] = [];
  const lookedAt = new Set<string>();
  for (;;) {
    const decisions = decideRetention(backups, policy, now, timeZone);
    const shrinking = new Set(
      decisions.filter(({ action }) => action === 'delete').map(({ backup }) => backup.database),
    );
    const pillars = [...shrinking].map((database) => newestGood(backups, database));
    const unseen = pillars.find((backup) => backup !== undefined && !lookedAt.has(backup.id));
    if (unseen === undefined) return { decisions, damaged };
    lookedAt.add(unseen.id);
    onProgress({ phase: 'check', item: unseen.id });
    const problem = await place.problemOf(unseen, signal);
    if (problem === undefined) continue;
    damaged.push({ id: unseen.id, problem });
    backups = backups.map((backup) => (backup.id === unseen.id ? { ...backup, good: false } : backup));
  }
}

function newestGood(backups: readonly RetainedBackup[], database: string): RetainedBackup | undefined {
  return backups
    .filter((backup) => backup.good && backup.database === database)
    .toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1))[0];
}

/** Unreadable manifests belong to no database that is known: they are left alone, and `verify` names them. */
export function repositoryPlace(repository: Repository): CleanupPlace {
  return {
    async list(signal) {
      const holds = new Map((await repository.listHolds(signal)).map(({ backup, reason }) => [backup, reason]));
      return (await repository.listBackups(signal)).flatMap((backup) => {
        if (backup.state !== 'readable') return [];
        const held = holds.get(backup.id);
        return [
          {
            id: backup.id,
            database: backup.database,
            createdAt: backup.createdAt,
            sizeBytes: backup.stats.newStoredBytes,
            good: true,
            ...(held === undefined ? {} : { held }),
          },
        ];
      });
    },
    async problemOf(backup, signal) {
      const { findings } = await repository.check({ level: 'structure', backups: [backup.id] }, signal);
      const finding = findings.find(({ backups }) => backups.includes(backup.id));
      return finding === undefined ? undefined : `${finding.object}: ${finding.problem}`;
    },
    async remove(backup, signal) {
      await repository.deleteBackup(backup.id, signal);
    },
    collect: async (dryRun, onProgress, signal) => await repository.collect({ dryRun, onProgress }, signal),
  };
}

/** A backup's id is its file name. Files of ours are compared with their sidecar; of others the newest is read before older ones go. */
export function folderPlace(folder: PlainFolder): CleanupPlace {
  return {
    async list(signal) {
      const { backups } = await folder.list(signal);
      return backups.map((backup) => ({
        id: backup.name.fileName,
        database: backup.databaseName,
        createdAt: backup.createdAt,
        sizeBytes: backup.sizeBytes,
        good: backup.problems.length === 0,
      }));
    },
    async problemOf({ id }, signal) {
      const backup = await folder.find(id, signal);
      // What Cellar wrote became visible only when it was whole, and its size was compared just now.
      if (backup.facts !== undefined) return undefined;
      const { findings } = await folder.verify(backup, await engineById('postgres'), NO_AGE_KEYS, signal);
      return findings[0];
    },
    async remove({ id }, signal) {
      const backup = await folder.find(id, signal);
      if (backup.name.fileName !== id) throw new CellarError('not-found', `The backup ${id} is gone.`);
      await folder.delete(backup, signal);
    },
  };
}
