/**
 * A set of chunks with their places, in memory of a fixed and small size per chunk (about 40 bytes): open addressing over typed arrays.
 * A full index takes no more; nothing is ever removed, its owner drops it whole.
 */
import { ID_BYTES } from './format.ts';
import type { ChunkPlace, FramePlace } from './place.ts';

const WORDS = ID_BYTES / 4;

export class ChunkIndex {
  readonly capacity: number;
  #size = 0;
  /** Grows up to `capacity`, so that a small index is small. */
  #room: number;
  #slots: Int32Array;
  #ids: Int32Array;
  #frames: Int32Array;
  #offsets: Int32Array;
  #lengths: Int32Array;
  readonly #places: FramePlace[] = [];

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#room = Math.min(capacity, 256);
    this.#slots = emptySlots(this.#room);
    this.#ids = new Int32Array(this.#room * WORDS);
    this.#frames = new Int32Array(this.#room);
    this.#offsets = new Int32Array(this.#room);
    this.#lengths = new Int32Array(this.#room);
  }

  get size(): number {
    return this.#size;
  }

  /** Remembers a chunk unless it is there or the index is full. Chunks of one frame are best added one after the other. */
  add(id: Uint8Array, length: number, frame: FramePlace, offset: number): void {
    if (this.#size === this.capacity) return;
    if (this.#size === this.#room) this.#grow();
    const view = viewOf(id);
    const slot = this.#slotOf(view, 0);
    if (this.#slots[slot] !== -1) return;
    const entry = this.#size++;
    this.#slots[slot] = entry;
    for (let word = 0; word < WORDS; word++) this.#ids[entry * WORDS + word] = view.getInt32(word * 4);
    if (this.#places.at(-1) !== frame) this.#places.push(frame);
    this.#frames[entry] = this.#places.length - 1;
    this.#offsets[entry] = offset;
    this.#lengths[entry] = length;
  }

  /** @param at where the id begins in `ids`. Undefined also for a chunk of that id with another length: that one is not the same. */
  find(ids: Uint8Array, at: number, length: number): ChunkPlace | undefined {
    const view = viewOf(ids);
    const entry = this.#slots[this.#slotOf(view, at)] ?? -1;
    if (entry === -1 || this.#lengths[entry] !== length) return undefined;
    const frame = this.#places[this.#frames[entry] ?? -1];
    return frame === undefined ? undefined : { length, frame, offset: this.#offsets[entry] ?? 0 };
  }

  /** The slot that holds this id, or the free one where it belongs. Ids are uniformly distributed: they are their own hash. */
  #slotOf(view: DataView, at: number): number {
    const mask = this.#slots.length - 1;
    const w0 = view.getInt32(at);
    const w1 = view.getInt32(at + 4);
    const w2 = view.getInt32(at + 8);
    const w3 = view.getInt32(at + 12);
    for (let slot = w0 & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot] ?? -1;
      if (entry === -1) return slot;
      const base = entry * WORDS;
      const ids = this.#ids;
      if (ids[base] === w0 && ids[base + 1] === w1 && ids[base + 2] === w2 && ids[base + 3] === w3) return slot;
    }
  }

  #grow(): void {
    this.#room = Math.min(this.capacity, this.#room * 2);
    this.#ids = extended(this.#ids, this.#room * WORDS);
    this.#frames = extended(this.#frames, this.#room);
    this.#offsets = extended(this.#offsets, this.#room);
    this.#lengths = extended(this.#lengths, this.#room);
    this.#slots = emptySlots(this.#room);
    const mask = this.#slots.length - 1;
    for (let entry = 0; entry < this.#size; entry++) {
      let slot = (this.#ids[entry * WORDS] ?? 0) & mask;
      while (this.#slots[slot] !== -1) slot = (slot + 1) & mask;
      this.#slots[slot] = entry;
    }
  }
}

function emptySlots(room: number): Int32Array {
  return new Int32Array(2 ** Math.ceil(Math.log2(Math.max(2, room * 1.5)))).fill(-1);
}

function extended(array: Int32Array, length: number): Int32Array {
  const longer = new Int32Array(length);
  longer.set(array);
  return longer;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
