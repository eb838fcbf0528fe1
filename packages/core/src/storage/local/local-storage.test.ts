import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storageConformance } from '../../testing/storage-conformance.ts';
import { openLocalStorage } from './local-storage.ts';

storageConformance('a local folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-storage-'));
  return {
    storage: await openLocalStorage(folder),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
});

storageConformance(
  'a local folder that does not exist yet',
  async () => {
    const parent = await mkdtemp(join(tmpdir(), 'cellar-storage-'));
    return {
      storage: await openLocalStorage(join(parent, 'not yet')),
      [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }),
    };
  },
  { manyObjects: 100 },
);
