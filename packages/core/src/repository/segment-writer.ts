/**
 * Takes in one segment of an entry: which of its chunks are stored already, the frames of those that are not, and out comes its recipe.
 * Chunks wait in a queue until their place is known, so that the recipe is written in order although frames arrive later.
 */
import { CellarError } from '../errors.ts';
import type { StoredSegment } from './backup-manifest.ts';
import { type Codec, ID_BYTES, MAX_FRAME_BYTES } from './format.ts';
import type { NewFrame } from './pack.ts';
import type { ChunkPlace, ChunkRef, FramePlace } from './place.ts';
import type { RecipeWriter } from './recipe.ts';

/** New chunks of a segment, as a worker thread hands them over. */
export interface SegmentFrame {
  /** Ordinal in the segment of the frame's first chunk. */
  readonly firstChunk: number;
  /** How many chunks: the next new ones from there on; stored ones in between are passed over. */
  readonly chunks: number;
  readonly rawLength: number;
  readonly codec: Codec;
  readonly payload: Uint8Array;
}

/** What a segment needs of the backup it belongs to. */
export interface SegmentTarget {
  prepare(signal: AbortSignal): Promise<void>;
  find(ids: Uint8Array, at: number, length: number): ChunkPlace | undefined;
  store(frame: NewFrame, signal: AbortSignal): Promise<FramePlace>;
  /** Called for every chunk of the recipe, in order. */
  referenced(ref: ChunkRef): void;
  reused(bytes: number): void;
  finished(segment: StoredSegment): void;
}

/** Calls on one segment are made one after the other; several segments may be open at once. */
export interface SegmentWriter {
  /**
   * Appends chunks to the segment and says of each whether it is stored already (1) or must be given to `append` (0).
   * @param ids 16 bytes each. @param lengths bytes of each chunk, 1 to 1 MiB.
   */
  lookup(ids: Uint8Array, lengths: Uint32Array, signal: AbortSignal): Promise<Uint8Array>;
  /** Stores new chunks, in order. Waits while packs pile up before the storage. */
  append(frame: SegmentFrame, signal: AbortSignal): Promise<void>;
  /** Throws when a chunk was announced and never given. */
  finish(signal: AbortSignal): Promise<StoredSegment>;
}

interface Waiting {
  readonly id: Uint8Array;
  readonly length: number;
  place: ChunkPlace | undefined;
}

export function createSegmentWriter(target: SegmentTarget, recipe: RecipeWriter): SegmentWriter {
  const waiting: Waiting[] = [];
  /** Ordinal of `waiting[0]`. */
  let first = 0;

  /** Moves what is decided, in order, into the recipe. */
  async function drain(signal: AbortSignal): Promise<void> {
    let done = 0;
    for (const { id, length, place } of waiting) {
      if (place === undefined) break;
      done++;
      const ref = { id, length, frame: place.frame, offset: place.offset };
      target.referenced(ref);
      await recipe.add(ref, signal);
    }
    waiting.splice(0, done);
    first += done;
  }

  return {
    async lookup(ids, lengths, signal) {
      await target.prepare(signal);
      const known = new Uint8Array(lengths.length);
      lengths.forEach((length, i) => {
        if (length === 0 || length > MAX_FRAME_BYTES) {
          throw new CellarError('invalid-input', `A chunk of ${length} bytes cannot be stored.`);
        }
        const at = i * ID_BYTES;
        const place = target.find(ids, at, length);
        if (place !== undefined) {
          known[i] = 1;
          target.reused(length);
        }
        waiting.push({ id: ids.subarray(at, at + ID_BYTES), length, place });
      });
      await drain(signal);
      return known;
    },

    async append({ firstChunk, chunks, rawLength, codec, payload }, signal) {
      const members: Waiting[] = [];
      for (let i = firstChunk - first; i >= 0 && i < waiting.length && members.length < chunks; i++) {
        const chunk = waiting[i];
        if (chunk !== undefined && chunk.place === undefined) members.push(chunk);
      }
      const sum = members.reduce((bytes, { length }) => bytes + length, 0);
      if (members.length !== chunks || chunks === 0 || sum !== rawLength) {
        throw new CellarError('mismatch', 'A frame holds other chunks than those that were announced.');
      }
      const frame = await target.store(
        { payload, codec, rawLength, ids: members.map(({ id }) => id), lengths: members.map(({ length }) => length) },
        signal,
      );
      let offset = 0;
      for (const member of members) {
        member.place = { length: member.length, frame, offset };
        offset += member.length;
      }
      await drain(signal);
    },

    async finish(signal) {
      if (waiting.length > 0) {
        throw new CellarError('mismatch', `A segment ended while ${waiting.length} of its chunks were still to come.`);
      }
      const segment = await recipe.finish(signal);
      target.finished(segment);
      return segment;
    },
  };
}
