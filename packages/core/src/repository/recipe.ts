/**
 * Recipes: the chunks of a segment in order. Written as pages that are themselves stored as chunks, so memory stays flat whatever
 * the segment's length, and unchanged stretches are stored once. Format: docs/repository-format.md, section 5.
 */
import { createHash } from 'node:crypto';
import type { StoredSegment } from './backup-manifest.ts';
import { damaged } from './format.ts';
import { decodePages, encodePage, endsPage, MAX_REFS } from './page.ts';
import type { ChunkRef } from './place.ts';

/** A recipe of this many chunks is kept in the manifest itself. */
const INLINE_REFS = 8;

/** Stores the bytes of a page, unless they are stored already, and says where. */
export type StorePage = (page: Buffer, signal: AbortSignal) => Promise<ChunkRef>;

export class RecipeWriter {
  readonly #storePage: StorePage;
  readonly #digest = segmentDigest();
  readonly #pages: ChunkRef[] = [];
  #refs: ChunkRef[] = [];
  #chunks = 0;
  #bytes = 0;

  constructor(storePage: StorePage) {
    this.#storePage = storePage;
  }

  async add(ref: ChunkRef, signal: AbortSignal): Promise<void> {
    this.#digest.add(ref);
    this.#chunks++;
    this.#bytes += ref.length;
    this.#refs.push(ref);
    if (endsPage(ref.id, this.#refs.length)) await this.#endPage(signal);
  }

  async finish(signal: AbortSignal): Promise<StoredSegment> {
    const level = this.#pages.length > 0 || this.#refs.length > INLINE_REFS ? 1 : 0;
    if (level === 1 && this.#refs.length > 0) await this.#endPage(signal);
    const refs = level === 1 ? this.#pages : this.#refs;
    const pages: Buffer[] = [];
    for (let i = 0; i < refs.length; i += MAX_REFS) pages.push(encodePage(refs.slice(i, i + MAX_REFS)));
    return {
      bytes: this.#bytes,
      chunks: this.#chunks,
      digest: this.#digest.hex(),
      level,
      refs: Buffer.concat(pages).toString('base64'),
    };
  }

  async #endPage(signal: AbortSignal): Promise<void> {
    const page = encodePage(this.#refs);
    this.#refs = [];
    this.#pages.push(await this.#storePage(page, signal));
  }
}

/** The refs that a segment's record in manifest `object` holds: its chunks (level 0) or its pages (level 1). Throws `damaged`. */
export function rootRefs(object: string, segment: StoredSegment): ChunkRef[] {
  const bytes = Buffer.from(segment.refs, 'base64');
  if (bytes.toString('base64') !== segment.refs) throw damaged(object, 'a recipe in it is not base64');
  return decodePages(object, bytes);
}

/** SHA-256 over id and length of each chunk in order: binds a segment's bytes without a second pass over them. */
export function segmentDigest(): { add: (ref: { id: Uint8Array; length: number }) => void; hex: () => string } {
  const hash = createHash('sha256');
  const record = Buffer.alloc(20);
  return {
    add({ id, length }) {
      record.set(id);
      record.writeUInt32BE(length, 16);
      hash.update(record);
    },
    hex: () => hash.digest('hex'),
  };
}

/** SHA-256 over the digests of an entry's segments, in order. */
export function entryDigest(segments: readonly { readonly digest: string }[]): string {
  const hash = createHash('sha256');
  for (const { digest } of segments) hash.update(Buffer.from(digest, 'hex'));
  return hash.digest('hex');
}
