import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { StoredSegment } from './backup-manifest.ts';
import { RAW } from './format.ts';
import { encodePage, MAX_REFS } from './page.ts';
import { ParentRecipe } from './parent-recipe.ts';
import type { ChunkRef } from './place.ts';

const never = new AbortController().signal;
const REFS_PER_PAGE = 20;

function ref(what: string, length = 100): ChunkRef {
  const id = createHash('sha256').update(what).digest().subarray(0, 16);
  return {
    id,
    length,
    offset: 0,
    frame: { packId: '0'.repeat(32), offset: 24, storedLength: 20, rawLength: 1000, codec: RAW },
  };
}

/** A recipe of so many pages, and how often pages were loaded. */
function recipeOf(pages: number, usable: (packId: string) => boolean = () => true) {
  const roots = Array.from({ length: pages }, (_, page) => ref(`page ${page}`, page + 1));
  const encoded: Buffer[] = [];
  for (let i = 0; i < roots.length; i += MAX_REFS) encoded.push(encodePage(roots.slice(i, i + MAX_REFS)));
  const segment: StoredSegment = {
    bytes: 0,
    chunks: 0,
    digest: '',
    level: 1,
    refs: Buffer.concat(encoded).toString('base64'),
  };
  let loaded = 0;
  async function* load(wanted: readonly ChunkRef[]): AsyncGenerator<readonly ChunkRef[]> {
    loaded += wanted.length;
    for (const { length } of wanted) {
      yield Array.from({ length: REFS_PER_PAGE }, (_, i) => ref(`chunk ${(length - 1) * REFS_PER_PAGE + i}`));
    }
  }
  const recipe = new ParentRecipe('parent', [segment], 0, load, usable);
  return { recipe, loads: () => loaded };
}

/** Looks chunks up as a segment does, in batches; returns how many were found. */
async function lookUp(recipe: ParentRecipe, chunks: Iterable<string>): Promise<number> {
  let found = 0;
  let n = 0;
  for (const chunk of chunks) {
    if (n++ % 32 === 0) await recipe.prepare(never);
    if (recipe.find(ref(chunk).id, 0, 100) !== undefined) found++;
  }
  return found;
}

function* chunks(from: number, to: number, name = 'chunk'): Generator<string> {
  for (let i = from; i < to; i++) yield `${name} ${i}`;
}

describe('the recipe of a very large entry', () => {
  const pages = 1000;
  const count = pages * REFS_PER_PAGE;

  test('is found whole by a stream that repeats it, each page being loaded once', async () => {
    const { recipe, loads } = recipeOf(pages);
    expect(await lookUp(recipe, chunks(0, count))).toBe(count);
    expect(loads()).toBeLessThan(pages + 300);
  });

  test('is found again after a large range was deleted', async () => {
    const { recipe } = recipeOf(pages);
    const found = await lookUp(recipe, [...chunks(0, 3000), ...chunks(13_000, count)]);
    expect(found).toBeGreaterThan(10_000 - 6 * 1056);
  });

  test('is found again after a large insertion, wherever the search had gone', async () => {
    for (const inserted of [1500, 3000, 8000]) {
      const { recipe } = recipeOf(pages);
      const found = await lookUp(recipe, [...chunks(0, 1000), ...chunks(0, inserted, 'new'), ...chunks(1000, count)]);
      expect(found).toBeGreaterThan(count - 2 * 1056);
    }
  });

  test('lends no chunk of a pack that may not be reused', async () => {
    const { recipe, loads } = recipeOf(10, () => false);
    expect(await lookUp(recipe, chunks(0, 200))).toBe(0);
    expect(loads()).toBe(0);
  });
});
