/**
 * Writes the golden repositories of the current format version to `fixtures/`, once: every later version must read them. Refuses to
 * write over one that exists, since what old programs wrote cannot be written again.
 *
 *   node packages/core/test/repository/write-golden.ts
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FORMAT_VERSION } from '../../src/repository/format.ts';
import type { KeyProtection } from '../../src/repository/key-object.ts';
import { initRepository } from '../../src/repository/repository.ts';
import { openLocalStorage } from '../../src/storage/local/local-storage.ts';
import { backUp, fixedSurroundings, never, noise, rows, type Streams, whole } from './streams.ts';

const FIXTURES = fileURLToPath(new URL('../../../../fixtures/', import.meta.url));

const day1: Streams = {
  schema: [Buffer.from('CREATE TABLE public.orders (id int, placed timestamptz, doc jsonb, mark text);\n')],
  'public.orders': [rows(1500)],
  'public.events': [rows(400, 'a'), rows(400, 'b')],
  'public.images': [noise(60_000, 'images')],
  'public.empty': [Buffer.alloc(0)],
};
const day2: Streams = { ...day1, 'public.orders': [Buffer.concat([rows(1500), rows(100, 'new', 1500)])] };

async function writeGolden(name: string, protection: KeyProtection): Promise<void> {
  const folder = `${FIXTURES}repository-v${FORMAT_VERSION}-${name}`;
  if (existsSync(folder)) throw new Error(`${folder} exists: it is what that version wrote, and stays.`);
  mkdirSync(folder, { recursive: true });
  await using storage = await openLocalStorage(folder);
  const surroundings = fixedSurroundings(`golden ${name}`);
  const repository = await initRepository(
    storage,
    {
      protection,
      surroundings,
      label: 'golden',
      chunker: { kind: 'content-defined', minSize: 128, averageSize: 512, maxSize: 2048 },
      packTargetBytes: 65536,
    },
    never,
  );
  const backups = [];
  for (const [database, streams] of [
    ['shop', day1],
    ['shop', day2],
    ['brewery “Süd”', { schema: day1.schema ?? [] }],
  ] as const) {
    const { id } = await backUp(repository, streams, database);
    const entries = Object.entries(whole(streams)).map(([entry, bytes]) => ({
      entry,
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    }));
    backups.push({ id, database, entries });
  }
  await repository.hold(backups[0]?.id ?? '', 'kept for the test', never);
  const { id } = await backUp(repository, { t: [noise(1000, 'deleted')] }, 'gone');
  await repository.deleteBackup(id, never);
  await repository.collect({ times: { packAgeMs: -3_600_000 } }, never);
  const { recoveryKey } = await repository.keys.kit(never);
  writeFileSync(`${folder}.json`, `${JSON.stringify({ id: repository.id, recoveryKey, backups }, null, 2)}\n`);
}

await writeGolden('unencrypted', { kind: 'none' });
await writeGolden('encrypted', { kind: 'passphrase', passphrase: 'correct horse battery staple', cost: 16384 });
