/**
 * Writes one backup: segments come in, packs go out, and at the end the manifest. Until then there is nothing to list and nothing to undo;
 * what a run that breaks off leaves is reused by the next one, or collected.
 */
import type { DumpOptions, Entry, SourceFacts } from '../engine/engine.ts';
import { CellarError, isCellarError } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import type { BackupManifest, BackupStats, StoredEntry, StoredSegment } from './backup-manifest.ts';
import { ChunkIndex } from './chunk-index.ts';
import { type CommitSteps, commitBackup } from './commit.ts';
import { compressFrame } from './compression.ts';
import type { Subkeys } from './crypto.ts';
import { backupName, FORMAT_VERSION } from './format.ts';
import { inParallel } from './in-parallel.ts';
import type { PackReader } from './pack-reader.ts';
import { PackWriter } from './pack-writer.ts';
import { decodePages } from './page.ts';
import { type LoadPages, ParentRecipe } from './parent-recipe.ts';
import type { ChunkRef } from './place.ts';
import { entryDigest, RecipeWriter } from './recipe.ts';
import type { ReusablePack, Reuse } from './reuse.ts';
import { createSegmentWriter, type SegmentTarget, type SegmentWriter } from './segment-writer.ts';
import type { Surroundings } from './surroundings.ts';

export type { SegmentFrame, SegmentWriter } from './segment-writer.ts';

/** Chunks of this very run that are remembered, so that repeated contents are stored once. */
const MAX_RUN_CHUNKS = 1 << 17;

export interface BackupDraft {
  readonly source: SourceFacts;
  /** In restore order. Their segments are those that were opened under their names. */
  readonly entries: readonly Entry[];
  readonly options: DumpOptions;
  readonly description: string;
  readonly tags: readonly string[];
}

/** To be disposed of, committed or not. */
export interface BackupWriter extends AsyncDisposable {
  /** ULID: of the backup, once it is committed. */
  readonly id: string;
  readonly parent: BackupManifest | undefined;
  /** What has come in so far. */
  readonly stats: BackupStats;
  /** @param segment position in the entry, from 0; each is opened once. */
  openSegment(entryName: string, segment: number): SegmentWriter;
  /**
   * Makes it a backup. Throws `mismatch` when segments are missing or open, `conflict` (retryable by a new backup) when a pack it
   * builds on was removed meanwhile; there is no backup then.
   */
  commit(draft: BackupDraft, signal: AbortSignal): Promise<BackupManifest>;
}

export interface BackupWriterOptions {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  readonly surroundings: Surroundings;
  readonly reader: PackReader;
  readonly idOf: (bytes: Uint8Array) => Buffer;
  readonly packTargetBytes: number;
  readonly listingFreshMs: number;
  readonly steps: CommitSteps;
  readonly id: string;
  readonly database: string;
  /** Keyed hash of `database`. */
  readonly databaseHash: string;
  readonly startedAt: Date;
  readonly reuse: Reuse;
}

export function createBackupWriter(options: BackupWriterOptions): BackupWriter {
  const { id, reuse, storage, subkeys, surroundings, reader, idOf } = options;
  const { packTargetBytes } = options;
  const packs = new PackWriter({ storage, subkeys, run: id, packTargetBytes, surroundings });
  const placed = new ChunkIndex(MAX_RUN_CHUNKS);
  const referenced = new Map<string, number>();
  const segments = new Map<string, Map<number, StoredSegment | undefined>>();
  let rawBytes = 0;
  let reusedBytes = 0;

  const usable = (packId: string) => reuse.packs.has(packId);
  const parentObject = reuse.parentName?.object ?? '';
  const parentEntries = new Map(reuse.parent?.entries.map((entry) => [entry.name, entry]));

  const loadPages: LoadPages = async function* (pages, signal) {
    const load = async (ref: ChunkRef): Promise<readonly ChunkRef[]> => {
      const pack = reuse.packs.get(ref.frame.packId);
      if (pack === undefined) return [];
      try {
        return decodePages(pack.object, await reader.chunk(pack, ref, signal));
      } catch (error) {
        // A damaged page of the parent costs deduplication, not this backup.
        if (isCellarError(error, 'damaged') || isCellarError(error, 'not-found')) return [];
        throw error;
      }
    };
    yield* inParallel(pages, surroundings.requests, load);
  };

  function count({ frame, length }: ChunkRef): void {
    const share = (frame.storedLength * length) / frame.rawLength;
    referenced.set(frame.packId, (referenced.get(frame.packId) ?? 0) + share);
  }

  function parentRecipe(entryName: string, segment: number): ParentRecipe {
    const stored = parentEntries.get(entryName)?.segments ?? [];
    return new ParentRecipe(parentObject, stored, segment, loadPages, usable);
  }

  function openSegment(entryName: string, segment: number): SegmentWriter {
    const ofEntry = segments.get(entryName) ?? new Map<number, StoredSegment | undefined>();
    segments.set(entryName, ofEntry);
    if (ofEntry.has(segment)) {
      throw new CellarError('conflict', `Segment ${segment} of ${entryName} was opened before.`);
    }
    ofEntry.set(segment, undefined);
    const parent = parentRecipe(entryName, segment);

    async function storePage(page: Buffer, signal: AbortSignal): Promise<ChunkRef> {
      const pageId = idOf(page);
      const { length } = page;
      const known =
        parent.findPage(pageId, length) ?? placed.find(pageId, 0, length) ?? reuse.orphans.find(pageId, 0, length);
      if (known !== undefined) {
        const ref = { id: pageId, ...known };
        count(ref);
        return ref;
      }
      const frame = await packs.add(
        { ...compressFrame(page), rawLength: length, ids: [pageId], lengths: [length] },
        signal,
      );
      const ref = { id: pageId, length, frame, offset: 0 };
      count(ref);
      return ref;
    }

    const target: SegmentTarget = {
      prepare: (signal) => parent.prepare(signal),
      find: (ids, at, length) =>
        parent.find(ids, at, length) ?? placed.find(ids, at, length) ?? reuse.orphans.find(ids, at, length),
      async store(frame, signal) {
        const place = await packs.add(frame, signal);
        let offset = 0;
        frame.ids.forEach((chunkId, i) => {
          const length = frame.lengths[i] ?? 0;
          placed.add(chunkId, length, place, offset);
          offset += length;
        });
        return place;
      },
      referenced(ref) {
        rawBytes += ref.length;
        count(ref);
      },
      reused(bytes) {
        reusedBytes += bytes;
      },
      finished: (stored) => ofEntry.set(segment, stored),
    };
    return createSegmentWriter(target, new RecipeWriter(storePage));
  }

  function storedEntry(entry: Entry): StoredEntry {
    const ofEntry = segments.get(entry.name) ?? new Map<number, StoredSegment | undefined>();
    const stored = Array.from({ length: ofEntry.size }, (_, ordinal) => ofEntry.get(ordinal));
    const whole = stored.filter((segment) => segment !== undefined);
    if (whole.length !== stored.length) {
      throw new CellarError('mismatch', `Not all segments of ${entry.name} were stored.`);
    }
    const bytes = whole.reduce((sum, segment) => sum + segment.bytes, 0);
    return { ...entry, bytes, digest: entryDigest(whole), segments: whole };
  }

  function storedEntries(entries: readonly Entry[]): StoredEntry[] {
    const names = new Set(entries.map(({ name }) => name));
    const strays = [...segments.keys()].filter((name) => !names.has(name));
    if (names.size !== entries.length || strays.length > 0) {
      throw new CellarError('mismatch', `The dump's entries are not the ones that were stored (${strays.join(', ')}).`);
    }
    return entries.map(storedEntry);
  }

  function referencedPacks(): ReusablePack[] {
    return [...referenced.keys()].map((packId) => {
      const written = packs.written.get(packId);
      const pack = written === undefined ? reuse.packs.get(packId) : { id: packId, ...written };
      if (pack === undefined) throw new Error(`Pack ${packId} is referenced and neither written nor reused.`);
      const { object, size, sha256, contentBytes } = pack;
      return { id: packId, object, size, sha256, contentBytes };
    });
  }

  const stats = (): BackupStats => ({
    rawBytes,
    newRawBytes: rawBytes - reusedBytes,
    newStoredBytes: packs.storedBytes,
    reusedBytes,
  });

  return {
    id,
    parent: reuse.parent,
    get stats() {
      return stats();
    },
    openSegment,

    async commit(draft, signal) {
      const entries = storedEntries(draft.entries);
      await packs.flush(signal);
      const manifest = (table: readonly ReusablePack[]): BackupManifest => ({
        format: FORMAT_VERSION,
        id,
        database: options.database,
        startedAt: options.startedAt,
        createdAt: new Date(surroundings.clock()),
        parent: reuse.parent?.id ?? null,
        description: draft.description,
        tags: draft.tags,
        source: draft.source,
        options: draft.options,
        entries,
        packs: table.map((pack) => ({
          ...pack,
          referencedBytes: Math.min(pack.contentBytes, Math.round(referenced.get(pack.id) ?? 0)),
        })),
        stats: stats(),
      });
      return await commitBackup(
        {
          storage,
          subkeys,
          surroundings,
          listingFreshMs: options.listingFreshMs,
          steps: options.steps,
          name: backupName(options.databaseHash, id),
          packs: referencedPacks(),
          nextName: (packId) => packs.nextName(packId),
          manifest,
        },
        signal,
      );
    },

    async [Symbol.asyncDispose]() {
      await packs.settle();
    },
  };
}
