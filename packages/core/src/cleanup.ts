/**
 * The verb: apply a retention policy to a repository or a folder of plain files.
 *
 *   list ─▶ decide ─▶ look at the newest good backup of each database that would lose one ─▶ (decide again) ─▶ delete ─▶ collect
 *
 * The promise that the newest good backup stays is worth what "good" is worth. So before anything of a database is deleted, the
 * backup that the others are given up for is looked at: one that is damaged counts as failed, and the decision is made again.
 */
import { CellarError, isCellarError } from './errors.ts';
import { NO_AGE_KEYS } from './plain/age.ts';
import type { PlainFolder } from './plain/plain-folder.ts';
import type { OnProgress } from './progress.ts';
import { engineById } from './registry.ts';
import type { CollectReport } from './repository/collect.ts';
import type { Repository } from './repository/repository.ts';
import {
  decideRetention,
  newestGood,
  type RetainedBackup,
  type RetentionDecision,
  type RetentionPolicy,
  seriesOf,
} from './retention/policy.ts';

/** Where backups are, as far as a cleanup is concerned. */
export interface CleanupPlace {
  list(signal: AbortSignal): Promise<readonly RetainedBackup[]>;
  /** Why this backup cannot be relied on, or undefined when nothing was found against it. */
  problemOf(backup: RetainedBackup, signal: AbortSignal): Promise<string | undefined>;
  remove(backup: RetainedBackup, signal: AbortSignal): Promise<void>;
  /** Removes what deleted backups have left beside them, and returns its names; only that on a dry run. */
  removeOrphans?(dryRun: boolean, signal: AbortSignal): Promise<readonly string[]>;
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
  /** Names of what deleted backups had left beside them. */
  readonly orphans: readonly string[];
  readonly garbage: CollectReport | undefined;
  /** Why no space was given back, where damage stood against it. What was deleted before stays deleted, and is told. */
  readonly notCollected: CellarError | undefined;
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
  const orphans = (await place.removeOrphans?.(dryRun, signal)) ?? [];
  return { decisions, damaged, deleted, orphans, ...(await collect(place, request)) };
}

async function collect(
  place: CleanupPlace,
  { dryRun, onProgress, signal }: CleanupRequest,
): Promise<Pick<CleanupReport, 'garbage' | 'notCollected'>> {
  try {
    return { garbage: await place.collect?.(dryRun, onProgress, signal), notCollected: undefined };
  } catch (error) {
    if (!isCellarError(error, 'damaged') && !isCellarError(error, 'unsupported-format')) throw error;
    return { garbage: undefined, notCollected: error };
  }
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
      decisions.filter(({ action }) => action === 'delete').map(({ backup }) => seriesOf(backup)),
    );
    const pillars = [...shrinking].map((series) =>
      newestGood(
        backups.filter((backup) => seriesOf(backup) === series),
        now,
      ),
    );
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
            part: backup.part,
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
        part: backup.part,
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
    async removeOrphans(dryRun, signal) {
      const { orphanedSidecars } = await folder.list(signal);
      if (!dryRun) for (const sidecar of orphanedSidecars) await folder.deleteOrphan(sidecar, signal);
      return orphanedSidecars;
    },
  };
}
