/**
 * Reads an entry back: chunk by chunk, each compared with its id, and at the end counts and digests with the manifest's. Never a shorter
 * stream: whatever is missing or wrong is an error that names the object.
 */
import { CellarError } from '../errors.ts';
import type { ObjectName } from '../storage/storage.ts';
import type { BackupManifest, StoredEntry, StoredPack, StoredSegment } from './backup-manifest.ts';
import { damaged } from './format.ts';
import type { PackReader, Range } from './pack-reader.ts';
import { decodePages } from './page.ts';
import { type ChunkRef, type FramePlace, sameFrame } from './place.ts';
import { entryDigest, rootRefs, segmentDigest } from './recipe.ts';

/** Stored bytes that one request asks for at most. */
const MAX_EXTENT = 1 << 20;
/** Bytes between two wanted frames that are fetched along rather than asked for separately. */
const MAX_GAP = 64 << 10;
/** Raw frames that a reader keeps, for chunks that share a frame and do not follow one another. */
const FRAMES_KEPT = 4;

/** Consecutive chunks of a stream that lie in one frame. */
interface FrameRun {
  readonly frame: FramePlace;
  readonly refs: ChunkRef[];
}

/** Frames that are fetched by one request. */
interface Stretch {
  readonly pack: StoredPack;
  range: Range;
  readonly runs: FrameRun[];
}

export interface EntrySource {
  readonly reader: PackReader;
  /** The manifest's object, for errors. */
  readonly object: ObjectName;
  readonly packs: ReadonlyMap<string, StoredPack>;
}

export function packTable(manifest: BackupManifest): ReadonlyMap<string, StoredPack> {
  return new Map(manifest.packs.map((pack) => [pack.id, pack]));
}

export async function* readStoredEntry(
  source: EntrySource,
  entry: StoredEntry,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const segments: { digest: string }[] = [];
  let bytes = 0;
  for (const segment of entry.segments) {
    segments.push({ digest: segment.digest });
    bytes += segment.bytes;
    yield* readSegment(source, entry, segment, signal);
  }
  if (bytes !== entry.bytes || entryDigest(segments) !== entry.digest) {
    throw damaged(source.object, `entry ${entry.name} is not what its digest says`);
  }
}

async function* readSegment(
  source: EntrySource,
  entry: StoredEntry,
  segment: StoredSegment,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const digest = segmentDigest();
  const frames = new Map<string, Buffer>();
  let bytes = 0;
  let chunks = 0;
  for await (const { pack, runs } of readAhead(source, segment, signal)) {
    for (const { frame, refs } of runs) {
      const raw = await keptFrame(frames, source.reader, pack, frame, signal);
      for (const ref of refs) {
        source.reader.take(pack.object, raw, ref);
        digest.add(ref);
        bytes += ref.length;
      }
      chunks += refs.length;
      yield* joined(raw, refs);
    }
  }
  if (chunks !== segment.chunks || bytes !== segment.bytes || digest.hex() !== segment.digest) {
    throw damaged(source.object, `entry ${entry.name} is not what its digest says`);
  }
}

async function keptFrame(
  frames: Map<string, Buffer>,
  reader: PackReader,
  pack: StoredPack,
  frame: FramePlace,
  signal: AbortSignal,
): Promise<Buffer> {
  const key = `${frame.packId}/${frame.offset}`;
  const kept = frames.get(key);
  if (kept !== undefined && kept.length === frame.rawLength) return kept;
  const raw = await reader.frame(pack, frame, signal);
  frames.set(key, raw);
  const [oldest] = frames.keys();
  if (frames.size > FRAMES_KEPT && oldest !== undefined) frames.delete(oldest);
  return raw;
}

/** The bytes of consecutive refs, in as few pieces as possible and without copying. */
function* joined(raw: Buffer, refs: readonly ChunkRef[]): Generator<Uint8Array> {
  let start = 0;
  let end = 0;
  for (const { offset, length } of refs) {
    if (offset !== end) {
      if (end > start) yield raw.subarray(start, end);
      start = offset;
    }
    end = offset + length;
  }
  if (end > start) yield raw.subarray(start, end);
}

/** The stretches of a segment; while one is used, the next is already on its way. */
async function* readAhead(source: EntrySource, segment: StoredSegment, signal: AbortSignal): AsyncGenerator<Stretch> {
  let ready: Stretch | undefined;
  for await (const next of stretches(source, segment, signal)) {
    source.reader.prefetch(next.pack, next.range, signal);
    if (ready !== undefined) yield ready;
    ready = next;
  }
  if (ready !== undefined) yield ready;
}

async function* stretches(source: EntrySource, segment: StoredSegment, signal: AbortSignal): AsyncGenerator<Stretch> {
  let current: Stretch | undefined;
  for await (const refs of recipePages(source, segment, signal)) {
    for (const run of frameRuns(refs)) {
      if (current !== undefined && extend(current, run)) continue;
      if (current !== undefined) yield current;
      const { offset, storedLength } = run.frame;
      current = {
        pack: packOf(source, run.frame),
        range: { start: offset, end: offset + storedLength },
        runs: [run],
      };
    }
  }
  if (current !== undefined) yield current;
}

/** Takes a run into a stretch when it lies at hand: further on in the same pack, or within what is fetched anyway. */
function extend(stretch: Stretch, run: FrameRun): boolean {
  const { start, end } = stretch.range;
  const { packId, offset, storedLength } = run.frame;
  const newEnd = Math.max(end, offset + storedLength);
  if (packId !== stretch.pack.id || offset < start || offset > end + MAX_GAP || newEnd - start > MAX_EXTENT)
    return false;
  stretch.range = { start, end: newEnd };
  stretch.runs.push(run);
  return true;
}

function frameRuns(refs: readonly ChunkRef[]): FrameRun[] {
  const runs: FrameRun[] = [];
  for (const ref of refs) {
    const last = runs.at(-1);
    if (last !== undefined && sameFrame(last.frame, ref.frame)) last.refs.push(ref);
    else runs.push({ frame: ref.frame, refs: [ref] });
  }
  return runs;
}

/** The refs of a segment, a page at a time. */
export async function* recipePages(
  source: EntrySource,
  segment: StoredSegment,
  signal: AbortSignal,
): AsyncGenerator<readonly ChunkRef[]> {
  const refs = rootRefs(source.object, segment);
  if (segment.level === 0) {
    if (refs.length > 0) yield refs;
    return;
  }
  for (const page of refs) {
    const pack = packOf(source, page.frame);
    yield decodePages(pack.object, await source.reader.chunk(pack, page, signal));
  }
}

export function packOf(source: EntrySource, frame: FramePlace): StoredPack {
  const pack = source.packs.get(frame.packId);
  if (pack === undefined) throw damaged(source.object, `it does not say where its pack ${frame.packId} is`);
  return pack;
}

/** Throws `not-found`. */
export function findEntry(manifest: BackupManifest, name: string): StoredEntry {
  const entry = manifest.entries.find((candidate) => candidate.name === name);
  if (entry !== undefined) return entry;
  throw new CellarError('not-found', `Backup ${manifest.id} has no entry ${JSON.stringify(name)}.`);
}
