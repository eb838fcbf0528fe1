/**
 * The recipe of an entry in the parent backup, as a writer looks chunks up in it: in memory that does not grow with the entry.
 *
 * Two halves of the recipe are in memory. A dump repeats its predecessor, so matches move along: once they come from the far half, the
 * near one is dropped and the next is loaded. When nothing matches for long (a large range was deleted or inserted), the far half
 * roams over the rest of the recipe until something matches again.
 *
 *   recipe  │ page │ page │ page │ page │ page │ page │ …
 *            ╰──── near ────╯╰──── far ────╯
 */
import type { StoredSegment } from './backup-manifest.ts';
import { ChunkIndex } from './chunk-index.ts';
import { MAX_REFS } from './page.ts';
import type { ChunkPlace, ChunkRef } from './place.ts';
import { rootRefs } from './recipe.ts';

/**
 * Pages of a half: some 16 Ki chunks, half a GiB of the entry, and several segments of it. Every segment that is written loads its own,
 * so more would be loaded many times over.
 */
const HALF_PAGES = 16;
/** Pages of the far half while it roams: some 4 GiB of the entry at a time, so that the stream is found again before much is stored anew. */
const ROAMING_PAGES = 128;
const CHUNKS_PER_PAGE = 2048;
/** Matches in a half that tell where the stream is: one alone may be a repeated chunk. */
const MATCHES = 16;
/** Chunks in a row without a match before the far half roams: some 16 MiB of new bytes; twice as many after each round in vain. */
const LOST_AFTER = 512;

/** Loads the refs of one page of a recipe. */
export type LoadPages = (pages: readonly ChunkRef[], signal: AbortSignal) => AsyncIterable<readonly ChunkRef[]>;

/** An entry's recipe, page by page; refs in the manifest itself are a page that needs no loading. */
type Step = { readonly refs: readonly ChunkRef[] } | { readonly page: ChunkRef };

export class ParentRecipe {
  readonly #steps: readonly Step[];
  readonly #load: LoadPages;
  readonly #usable: (packId: string) => boolean;
  readonly #pages: ChunkIndex;
  #near = new ChunkIndex(0);
  #far = new ChunkIndex(0);
  #nearFrom = 0;
  #nearPages = HALF_PAGES;
  #farFrom = 0;
  #farPages = HALF_PAGES;
  /** Whether the far half is not the one that follows the near one. */
  #roaming = false;
  #loaded = false;
  #nearMatches = 0;
  #farMatches = 0;
  #misses = 0;
  #lostAfter = LOST_AFTER;
  /** Pages that were roamed over since the last match. */
  #roamed = 0;

  /**
   * @param object the parent's manifest, for errors.
   * @param segment where the looked-up stream probably begins: its ordinal in the entry.
   * @param usable whether chunks in a pack may be reused.
   */
  constructor(
    object: string,
    segments: readonly StoredSegment[],
    segment: number,
    load: LoadPages,
    usable: (packId: string) => boolean,
  ) {
    const steps: Step[] = [];
    const pages: ChunkRef[] = [];
    segments.forEach((stored, ordinal) => {
      if (ordinal === segment) this.#nearFrom = steps.length;
      const refs = rootRefs(object, stored);
      if (stored.level === 1) {
        for (const page of refs) steps.push({ page });
        pages.push(...refs);
      } else {
        for (let i = 0; i < refs.length; i += MAX_REFS) steps.push({ refs: refs.slice(i, i + MAX_REFS) });
      }
    });
    this.#steps = steps;
    this.#load = load;
    this.#usable = usable;
    this.#pages = new ChunkIndex(pages.length);
    this.#addAll(this.#pages, pages);
  }

  /** Where a page of the recipe with this id is stored. */
  findPage(id: Uint8Array, length: number): ChunkPlace | undefined {
    return this.#pages.find(id, 0, length);
  }

  /** To be called before every batch of lookups: loads what the next ones will probably need. */
  async prepare(signal: AbortSignal): Promise<void> {
    if (!this.#loaded) {
      this.#loaded = true;
      this.#near = await this.#half(this.#nearFrom, HALF_PAGES, signal);
      if (this.#steps.length > HALF_PAGES) await this.#follow(signal);
    } else if (this.#steps.length > 2 * HALF_PAGES) {
      if (this.#farMatches >= MATCHES) {
        this.#near = this.#far;
        this.#nearFrom = this.#farFrom;
        this.#nearPages = this.#farPages;
        await this.#follow(signal);
      } else if (this.#roaming && this.#nearMatches >= MATCHES) {
        await this.#follow(signal);
      } else if (this.#misses >= this.#lostAfter) {
        this.#roaming = true;
        this.#roamed += ROAMING_PAGES;
        if (this.#roamed % this.#steps.length < ROAMING_PAGES) this.#lostAfter *= 2;
        await this.#loadFar(this.#farFrom + this.#farPages, ROAMING_PAGES, signal);
      }
    }
  }

  find(ids: Uint8Array, at: number, length: number): ChunkPlace | undefined {
    const near = this.#near.find(ids, at, length);
    const found = near ?? this.#far.find(ids, at, length);
    if (found === undefined) {
      this.#misses++;
    } else {
      this.#misses = 0;
      if (near === undefined) this.#farMatches++;
      else this.#nearMatches++;
    }
    return found;
  }

  /** Makes the far half the one behind the near one. */
  async #follow(signal: AbortSignal): Promise<void> {
    this.#roaming = false;
    this.#roamed = 0;
    this.#lostAfter = LOST_AFTER;
    await this.#loadFar(this.#nearFrom + this.#nearPages, HALF_PAGES, signal);
  }

  async #loadFar(from: number, pages: number, signal: AbortSignal): Promise<void> {
    this.#farFrom = from % this.#steps.length;
    this.#farPages = pages;
    this.#nearMatches = 0;
    this.#farMatches = 0;
    this.#misses = 0;
    this.#far = new ChunkIndex(0);
    this.#far = await this.#half(this.#farFrom, pages, signal);
  }

  /** So many steps from one on, past the end again from the first: a later segment's chunks may have moved into an earlier one. */
  async #half(from: number, count: number, signal: AbortSignal): Promise<ChunkIndex> {
    const index = new ChunkIndex(count * CHUNKS_PER_PAGE);
    const pages: ChunkRef[] = [];
    for (let i = 0; i < Math.min(count, this.#steps.length); i++) {
      const step = this.#steps[(from + i) % this.#steps.length];
      if (step === undefined) continue;
      if ('refs' in step) this.#addAll(index, step.refs);
      else if (this.#usable(step.page.frame.packId)) pages.push(step.page);
    }
    for await (const refs of this.#load(pages, signal)) this.#addAll(index, refs);
    return index;
  }

  #addAll(index: ChunkIndex, refs: readonly ChunkRef[]): void {
    for (const { id, length, frame, offset } of refs) {
      if (this.#usable(frame.packId)) index.add(id, length, frame, offset);
    }
  }
}
