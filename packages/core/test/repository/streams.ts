/**
 * What the repository's tests share: bytes that look like dumps, and a plain, single-threaded way to store streams as a backup and read
 * them back, doing what the pipeline's threads do.
 */
import { createHash } from 'node:crypto';
import { type DumpOptions, NO_FILTERS, type SourceFacts } from '../../src/engine/engine.ts';
import type { BackupManifest } from '../../src/repository/backup-manifest.ts';
import type { BackupDraft, BackupWriter, SegmentWriter } from '../../src/repository/backup-writer.ts';
import { type ChunkTools, createChunkTools } from '../../src/repository/chunk-spec.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { Surroundings } from '../../src/repository/surroundings.ts';

/** Entry name → its segments. */
export type Streams = Readonly<Record<string, readonly Uint8Array[]>>;

export const never = new AbortController().signal;

export const DUMP_OPTIONS: DumpOptions = {
  filters: NO_FILTERS,
  globals: false,
  jobs: 1,
  lockTimeoutMs: 1000,
  stallTimeoutMs: 1000,
};

export const SOURCE: SourceFacts = {
  engine: 'postgres',
  serverVersion: '15.18',
  serverMajor: 15,
  database: 'shop',
  host: 'localhost',
  port: 5432,
  encoding: 'UTF8',
  collate: 'C',
  ctype: 'C',
  extensions: [],
  tools: { pg_dump: '15.18' },
  schemaDigest: '',
  warnings: [],
  details: { owner: 'shop' },
};

/** Bytes that do not compress, the same in every run. */
export function noise(length: number, seed: string): Buffer {
  return createHash('shake256', { outputLength: length }).update(seed).digest();
}

/** Rows as COPY writes them: compressible, every row its own. */
export function rows(count: number, seed = 'rows', from = 0): Buffer {
  const lines: string[] = [];
  for (let i = from; i < from + count; i++) {
    const mark = createHash('md5').update(`${seed}${i}`).digest('hex');
    lines.push(
      `${i}\t2024-11-08 12:00:${String(i % 60).padStart(2, '0')}+00\t{"batch": "${mark}", "state": "fermenting"}\t${mark.slice(0, 9)}\n`,
    );
  }
  return Buffer.from(lines.join(''));
}

/** Time and chance that are the same in every run. Each call of the clock is a millisecond later. */
export function fixedSurroundings(seed: string, start = Date.UTC(2024, 10, 8, 12)): Surroundings {
  let now = start;
  let drawn = 0;
  return { clock: () => now++, random: (length) => noise(length, `${seed}/${drawn++}`), requests: 1 };
}

export async function storeSegment(
  writer: SegmentWriter,
  tools: ChunkTools,
  bytes: Uint8Array,
  { batch = 32, frameBytes = 256 << 10 } = {},
): Promise<void> {
  const ends: number[] = [];
  for (let start = 0; start < bytes.length; ) {
    const cut = tools.chunker.cut(bytes, start, bytes.length);
    start = cut === -1 ? bytes.length : cut;
    ends.push(start);
  }
  for (let first = 0; first < ends.length; first += batch) {
    const some = ends.slice(first, first + batch);
    const ids = new Uint8Array(some.length * 16);
    const lengths = new Uint32Array(some.length);
    const startOf = (i: number) => ends[first + i - 1] ?? 0;
    some.forEach((end, i) => {
      lengths[i] = end - startOf(i);
      tools.writeId(bytes.subarray(startOf(i), end), ids, i * 16);
    });
    const known = await writer.lookup(ids, lengths, never);
    for (let i = 0; i < some.length; ) {
      if (known[i] === 1) {
        i++;
        continue;
      }
      const begin = i;
      while (i < some.length && known[i] === 0 && (i === begin || (some[i] as number) - startOf(begin) <= frameBytes))
        i++;
      const raw = bytes.subarray(startOf(begin), some[i - 1]);
      await writer.append(
        { firstChunk: first + begin, chunks: i - begin, rawLength: raw.length, ...tools.compress(raw) },
        never,
      );
    }
  }
  await writer.finish(never);
}

export async function storeStreams(repository: Repository, writer: BackupWriter, streams: Streams): Promise<void> {
  const tools = createChunkTools(repository.chunks);
  for (const [entry, segments] of Object.entries(streams)) {
    for (const [segment, bytes] of segments.entries())
      await storeSegment(writer.openSegment(entry, segment), tools, bytes);
  }
}

export function draftOf(streams: Streams): BackupDraft {
  return {
    source: SOURCE,
    entries: Object.keys(streams).map((name) => ({ name, kind: 'rows', rows: 1, locator: null })),
    options: DUMP_OPTIONS,
    description: 'a test',
    tags: ['test'],
  };
}

export async function backUp(repository: Repository, streams: Streams, database = 'shop'): Promise<BackupManifest> {
  await using writer = await repository.beginBackup({ database }, never);
  await storeStreams(repository, writer, streams);
  return await writer.commit(draftOf(streams), never);
}

export async function collectBytes(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Every entry of a backup, read in full. */
export async function readAll(repository: Repository, manifest: BackupManifest): Promise<Record<string, Buffer>> {
  const contents: Record<string, Buffer> = {};
  for (const { name } of manifest.entries) {
    contents[name] = await collectBytes(repository.readEntry(manifest, name, never));
  }
  return contents;
}

/** What `readAll` must give. */
export function whole(streams: Streams): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(streams).map(([name, segments]) => [name, Buffer.concat(segments)]));
}
