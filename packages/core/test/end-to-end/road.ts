/** The whole road, as the verbs take it, for the tests in this folder: a repository in a folder of its own, a backup, a restore. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackupContents } from '../../src/engine/engine.ts';
import { type DumpOptions, NO_FILTERS, type RestoreOptions, type RestoreReport } from '../../src/engine/engine.ts';
import { openStorage } from '../../src/registry.ts';
import type { KeyProtection } from '../../src/repository/key-object.ts';
import { initRepository, type Repository } from '../../src/repository/repository.ts';
import { restoreBackup } from '../../src/restore.ts';
import { OPTIONS } from '../restore/options.ts';

export const PASSPHRASE = 'correct horse battery staple';
export const ENCRYPTED: KeyProtection = { kind: 'passphrase', passphrase: PASSPHRASE };
export const CLEAR: KeyProtection = { kind: 'none' };

/** For calls that nothing is to abort. */
export const SIGNAL = new AbortController().signal;

export function dumpOptions(options: Partial<DumpOptions> = {}): DumpOptions {
  return { filters: NO_FILTERS, globals: false, jobs: 2, lockTimeoutMs: 10_000, stallTimeoutMs: 60_000, ...options };
}

export async function restoreTo(
  url: string,
  contents: BackupContents,
  options: Partial<RestoreOptions> = {},
): Promise<RestoreReport> {
  return await restoreBackup({
    url,
    contents,
    options: { ...OPTIONS, prove: true, now: new Date(), ...options },
    onProgress() {},
    signal: SIGNAL,
  });
}

export interface TestFolder extends AsyncDisposable {
  readonly path: string;
}

export async function testFolder(): Promise<TestFolder> {
  const path = await mkdtemp(join(tmpdir(), 'cellar-test-'));
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) };
}

export async function newRepository(folder: TestFolder, protection: KeyProtection = CLEAR): Promise<Repository> {
  return await initRepository(await openStorage(join(folder.path, 'repository')), { protection }, SIGNAL);
}
