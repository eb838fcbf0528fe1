/**
 * Reads frames out of packs. Bytes are fetched in *extents* of up to a few MiB, and the last ones are kept: small entries lie side by side, so
 * that reading hundreds of them costs a few requests, and a long stream costs one request per extent.
 */
import { throwIfAborted } from '../errors.ts';
import type { ObjectName, Storage } from '../storage/storage.ts';
import type { Subkeys } from './crypto.ts';
import { damaged, ID_BYTES } from './format.ts';
import { checkHeader, checkPackSize, FOOTER_BYTES, HEADER_BYTES, type PackedFrame, PackKey } from './pack.ts';
import type { ChunkRef, FramePlace } from './place.ts';

const CACHE_BYTES = 8 << 20;
/** Fetched at least, forwards: what a single small frame brings along. */
const LEAST_FETCH = 256 << 10;
const KEYS_KEPT = 64;

/** What is needed of a pack to read from it. */
export interface ReadablePack {
  readonly object: ObjectName;
  readonly size: number;
  /** Bytes of its frames. */
  readonly contentBytes: number;
}

export interface Range {
  readonly start: number;
  readonly end: number;
}

interface Extent extends Range {
  readonly object: ObjectName;
  readonly bytes: Promise<Buffer>;
}

export class PackReader {
  readonly #storage: Storage;
  readonly #subkeys: Subkeys;
  readonly #idOf: (bytes: Uint8Array) => Buffer;
  readonly #keys = new Map<string, PackKey>();
  /** Least recently used first. */
  #extents: Extent[] = [];

  constructor(storage: Storage, subkeys: Subkeys, idOf: (bytes: Uint8Array) => Buffer) {
    this.#storage = storage;
    this.#subkeys = subkeys;
    this.#idOf = idOf;
  }

  key(packId: string): PackKey {
    let key = this.#keys.get(packId);
    if (key === undefined) {
      if (this.#keys.size >= KEYS_KEPT) this.#keys.clear();
      key = new PackKey(this.#subkeys, packId);
      this.#keys.set(packId, key);
    }
    return key;
  }

  /** Starts fetching a range of a pack, so that frames in it are at hand soon; errors come when they are read. */
  prefetch(pack: ReadablePack, range: Range, signal: AbortSignal): void {
    if (this.#covering(pack.object, range) === undefined) this.#fetch(pack, range, signal);
  }

  /** The raw bytes of a frame. Throws `damaged` (or what the storage throws), naming the object. */
  async frame(pack: ReadablePack, frame: FramePlace, signal: AbortSignal): Promise<Buffer> {
    const end = frame.offset + frame.storedLength;
    if (end > HEADER_BYTES + pack.contentBytes) throw damaged(pack.object, 'a recipe points outside of its frames');
    const stored = await this.#read(pack, { start: frame.offset, end }, signal);
    return this.key(frame.packId).openFrame(pack.object, frame, stored);
  }

  /** The bytes of one chunk, compared with its id. */
  async chunk(pack: ReadablePack, ref: ChunkRef, signal: AbortSignal): Promise<Buffer> {
    const raw = await this.frame(pack, ref.frame, signal);
    return this.take(pack.object, raw, ref);
  }

  /** A chunk out of its raw frame, compared with its id. Throws `damaged`. */
  take(object: string, raw: Buffer, { id, offset, length }: ChunkRef): Buffer {
    const bytes = raw.subarray(offset, offset + length);
    if (bytes.length !== length || !this.#idOf(bytes).equals(id)) {
      throw damaged(
        object,
        `a chunk in it is not the one it should be (${Buffer.from(id).toString('hex', 0, ID_BYTES)})`,
      );
    }
    return bytes;
  }

  /** What a pack of a run without a manifest holds, by its trailer: two or three small reads. */
  async trailer(object: ObjectName, packId: string, size: number, signal: AbortSignal): Promise<PackedFrame[]> {
    checkPackSize(object, size);
    const key = this.key(packId);
    const tailStart = Math.max(0, size - LEAST_FETCH);
    const tail = await this.#get(object, { start: tailStart, end: size }, signal);
    const offset = key.openFooter(object, size, tail.subarray(tail.length - FOOTER_BYTES));
    const sealed =
      offset >= tailStart
        ? tail.subarray(offset - tailStart, tail.length - FOOTER_BYTES)
        : await this.#get(object, { start: offset, end: size - FOOTER_BYTES }, signal);
    const header =
      tailStart === 0
        ? tail.subarray(0, HEADER_BYTES)
        : await this.#get(object, { start: 0, end: HEADER_BYTES }, signal);
    checkHeader(object, key, header);
    return key.openTrailer(object, offset, sealed);
  }

  async #read(pack: ReadablePack, range: Range, signal: AbortSignal): Promise<Buffer> {
    for (;;) {
      throwIfAborted(signal);
      const shared = this.#covering(pack.object, range);
      const extent = shared ?? this.#fetch(pack, range, signal);
      try {
        return (await extent.bytes).subarray(range.start - extent.start, range.end - extent.start);
      } catch (error) {
        // An extent that another reader asked for and gave up, or that failed in passing: ask once more for ourselves.
        if (shared === undefined) throw error;
        this.#extents = this.#extents.filter((other) => other !== extent);
      }
    }
  }

  #covering(object: ObjectName, { start, end }: Range): Extent | undefined {
    const at = this.#extents.findLastIndex(
      (extent) => extent.start <= start && extent.end >= end && extent.object === object,
    );
    const extent = this.#extents[at];
    if (extent !== undefined && at < this.#extents.length - 1) {
      this.#extents.splice(at, 1);
      this.#extents.push(extent);
    }
    return extent;
  }

  #fetch(pack: ReadablePack, { start, end }: Range, signal: AbortSignal): Extent {
    const contentEnd = HEADER_BYTES + pack.contentBytes;
    const to = Math.max(end, Math.min(start + LEAST_FETCH, contentEnd));
    const bytes = this.#get(pack.object, { start, end: to }, signal);
    const extent = { object: pack.object, start, end: to, bytes };
    bytes.catch(() => {
      this.#extents = this.#extents.filter((other) => other !== extent);
    });
    this.#extents.push(extent);
    let kept = this.#extents.reduce((sum, other) => sum + other.end - other.start, 0);
    while (kept > CACHE_BYTES && this.#extents.length > 2) {
      const oldest = this.#extents.shift();
      if (oldest !== undefined) kept -= oldest.end - oldest.start;
    }
    return extent;
  }

  async #get(object: ObjectName, { start, end }: Range, signal: AbortSignal): Promise<Buffer> {
    const length = end - start;
    const parts: Uint8Array[] = [];
    let got = 0;
    for await (const part of this.#storage.get(object, { signal, range: { offset: start, length } })) {
      parts.push(part);
      got += part.length;
    }
    if (got !== length) throw damaged(object, `${length} bytes of it were asked for and ${got} came`);
    const [only] = parts;
    if (only !== undefined && parts.length === 1) return Buffer.from(only.buffer, only.byteOffset, only.byteLength);
    return Buffer.concat(parts, got);
  }
}
