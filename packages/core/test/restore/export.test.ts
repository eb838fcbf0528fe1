import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parseArchiveToc } from '../../src/engine/postgres/archive.ts';
import { exportBackup } from '../../src/engine/postgres/export.ts';
import { CellarError } from '../../src/errors.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { sharedCluster, testDatabase } from '../harness/databases.ts';
import { type HeldBackup, holdBackup, streamOf } from './backup-contents.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function inFile<T>(bytes: Buffer, use: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-export-test-'));
  try {
    await writeFile(join(folder, 'backup'), bytes);
    return await use(join(folder, 'backup'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe('an export', () => {
  it('as dump has the header and table of contents that pg_dump wrote, byte for byte, when made for a pipe', async () => {
    await using source = await testDatabase('kitchen-sink');
    const backup = await holdBackup(sharedCluster(), source.name);
    const unknownSizes = { ...backup, sizeOf: () => undefined };
    const exported = await collect(exportBackup(unknownSizes, 'dump', signal));
    const head = backup.bytesOf.get('schema') ?? Buffer.alloc(0);
    const length = parseArchiveToc(exported)?.length ?? 0;
    // The first block's place follows from the head alone; all later ones are not known.
    expect(length).toBe(head.length);
    const places = parseArchiveToc(exported)?.entries.filter(({ offsetFlag }) => offsetFlag === 2) ?? [];
    expect(places.length).toBeLessThanOrEqual(1);
  });

  it.each([
    { title: 'as pg_dump wrote it', copied: [] },
    { title: 'with rows that Cellar copied itself', copied: ['public.events', 'public.batches', 'public.recipes'] },
  ])('as dump is listed and restored by the stock pg_restore, also in parallel: $title', async ({ copied }) => {
    await using source = await testDatabase('brewery');
    const cluster = sharedCluster();
    const tables = await cluster.query<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
      source.name,
    );
    const chosen = copied.length === 0 ? [] : tables.map(({ name }) => name).slice(0, 4);
    const backup = await holdBackup(cluster, source.name, { copied: chosen });
    const exported = await collect(exportBackup(backup, 'dump', signal));
    await inFile(exported, async (path) => {
      const list = await run(join(cluster.binaries, 'pg_restore'), ['-l', path]);
      expect(list.stdout).toMatch(/TABLE DATA/);
      for (const args of [[], ['-j4']]) {
        await using restored = await testDatabase('empty');
        await run(join(cluster.binaries, 'pg_restore'), ['--exit-on-error', ...args, '-d', restored.name, path], {
          env: cluster.environment(restored.name),
        });
        expect(await compareDatabases(source.url, restored.url)).toEqual([]);
      }
    });
  });

  it('as sql is a script that psql restores alone', async () => {
    await using source = await testDatabase('kitchen-sink');
    const cluster = sharedCluster();
    const backup = await holdBackup(cluster, source.name);
    const script = await collect(exportBackup(backup, 'sql', signal));
    await using restored = await testDatabase('empty');
    await inFile(script, async (path) => await cluster.psqlFile(path, restored.name));
    expect(await compareDatabases(source.url, restored.url)).toEqual([]);
  });

  it.each(['dump', 'sql'] as const)(
    'as %s ends with the error of a stored stream that turns out damaged',
    async (format) => {
      await using source = await testDatabase('brewery');
      const backup = damagedAtTheEnd(await holdBackup(sharedCluster(), source.name));
      await expect(collect(exportBackup(backup, format, signal))).rejects.toMatchObject({ code: 'damaged' });
    },
  );
});

/** Every stream of rows gives all its bytes, and then fails. */
function damagedAtTheEnd(backup: HeldBackup): HeldBackup {
  return {
    ...backup,
    async *open(entry) {
      yield* streamOf(backup.bytesOf.get(entry.name) ?? Buffer.alloc(0));
      if (entry.kind === 'rows') throw new CellarError('damaged', 'Chunk 7 is not what was written.');
    },
  };
}
