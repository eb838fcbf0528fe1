/** Streams read ahead and hold on to what they are given: what an export yields must stay as it is. */
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { backupToRepository } from '../../src/backup.ts';
import { type ExportAs, exportBackup } from '../../src/export.ts';
import { testDatabase } from '../harness/databases.ts';
import { dumpOptions, newRepository, SIGNAL, testFolder } from './road.ts';

test('the arrays of an export are the same bytes when all have been collected', async () => {
  await using source = await testDatabase('brewery');
  await using folder = await testFolder();
  await using repository = await newRepository(folder);
  const request = { url: source.url, options: dumpOptions(), onProgress() {}, signal: SIGNAL };
  const contents = repository.contents(await backupToRepository(repository, request));
  const collected = async (as: ExportAs): Promise<Buffer> => {
    const pieces: Uint8Array[] = [];
    for await (const piece of exportBackup(contents, as, SIGNAL)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const withoutToken = (script: Buffer): string => script.toString('latin1').replace(/^\\(un)?restrict .*$/gm, '');
  const script = withoutToken(await collected('sql'));
  expect(script).toContain('PostgreSQL database dump complete');
  expect(withoutToken(gunzipSync(await collected('sql.gz'))) === script).toBe(true);
});
