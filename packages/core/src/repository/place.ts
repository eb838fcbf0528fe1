/** Where a chunk lies: plain types that packs, pages and indexes share. */
import type { Codec } from './format.ts';

/** A frame in a pack: one AEAD over one or more chunks. */
export interface FramePlace {
  /** 32 hex digits. A pack's id, not an object's name: a pack may be copied to another name. */
  readonly packId: string;
  /** Bytes from the start of the pack. */
  readonly offset: number;
  /** Bytes in the pack, tag included. */
  readonly storedLength: number;
  /** Bytes of all its chunks together. */
  readonly rawLength: number;
  readonly codec: Codec;
}

export interface ChunkPlace {
  /** Bytes of the chunk. */
  readonly length: number;
  readonly frame: FramePlace;
  /** Where the chunk begins in the raw frame. */
  readonly offset: number;
}

/** A chunk in a recipe. */
export interface ChunkRef extends ChunkPlace {
  /** 16 bytes. */
  readonly id: Uint8Array;
}

export function sameFrame(a: FramePlace, b: FramePlace): boolean {
  return a === b || (a.offset === b.offset && a.packId === b.packId);
}
