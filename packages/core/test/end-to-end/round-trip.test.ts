/**
 * A database that has everything that pg_dump covers goes through every form that a backup can have, and comes back equal:
 * the text of its schema, every row of every table, sequences, large objects, and what belongs to the database itself.
 */
import { execFile, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { backupToFolder, backupToRepository } from '../../src/backup.ts';
import { exportBackup } from '../../src/export.ts';
import { type AgeEncryption, NO_AGE_KEYS } from '../../src/plain/age.ts';
import { PlainFolder } from '../../src/plain/plain-folder.ts';
import { engineForUrl, openStorage } from '../../src/registry.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { testDatabase } from '../harness/databases.ts';
import { CLEAR, dumpOptions, ENCRYPTED, newRepository, restoreTo, SIGNAL, testFolder } from './road.ts';

const run = promisify(execFile);

describe('a database with everything in it comes back equal', () => {
  for (const [how, protection] of [
    ['clear', CLEAR],
    ['encrypted', ENCRYPTED],
  ] as const) {
    for (const jobs of [1, 4]) {
      test(`through a repository (${how}), with ${jobs} job(s)`, async () => {
        await using source = await testDatabase('kitchen-sink');
        await using target = await testDatabase();
        await using folder = await testFolder();
        await using repository = await newRepository(folder, protection);
        const options = dumpOptions({ jobs, globals: true });
        const { id } = await backupToRepository(repository, {
          url: source.url,
          options,
          onProgress() {},
          signal: SIGNAL,
        });

        const manifest = await repository.findBackup(id, SIGNAL);
        await source.cluster.dropDatabase(target.name);
        const report = await restoreTo(target.url, repository.contents(manifest), { mode: 'new', jobs });

        expect(await compareDatabases(source.url, target.url, { properties: true })).toEqual([]);
        expect(report.tables.every(({ expectedRows, restoredRows }) => expectedRows === restoredRows)).toBe(true);
      });
    }
  }

  const encryptions: readonly [string, AgeEncryption | undefined][] = [
    ['clear', undefined],
    ['encrypted', { kind: 'passphrase', passphrase: 'a passphrase of its own' }],
  ];
  for (const [how, encryption] of encryptions) {
    for (const compression of ['gzip', 'zstd'] as const) {
      test(`through a plain file (${compression}, ${how})`, async () => {
        await using source = await testDatabase('kitchen-sink');
        await using target = await testDatabase();
        await using folder = await testFolder();
        const files = new PlainFolder(await openStorage(folder.path));
        const backup = await backupToFolder(files, {
          url: source.url,
          options: dumpOptions({ jobs: 1 }),
          compression,
          encryption,
          now: new Date(),
          onProgress() {},
          signal: SIGNAL,
        });

        const keys =
          encryption?.kind === 'passphrase' ? { identities: [], passphrases: [encryption.passphrase] } : NO_AGE_KEYS;
        const contents = await files.contents(backup, await engineForUrl(target.url), keys, SIGNAL);
        await source.cluster.dropDatabase(target.name);
        await restoreTo(target.url, contents, { mode: 'new', prove: false });

        const differences = await compareDatabases(source.url, target.url, { properties: true });
        // Beside an encrypted file they would stand in clear, so they are not there.
        const isLeftOut = (line: string) => encryption !== undefined && /^database (comment|settings)/.test(line);
        expect(differences.filter((line) => !isLeftOut(line))).toEqual([]);
      });
    }
  }

  test('exported as an archive, which the stock pg_restore lists and restores', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using target = await testDatabase();
    await using folder = await testFolder();
    await using repository = await newRepository(folder);
    const manifest = await backupToRepository(repository, {
      url: source.url,
      options: dumpOptions(),
      onProgress() {},
      signal: SIGNAL,
    });
    const file = join(folder.path, 'export.dump');
    await pipeline(Readable.from(exportBackup(repository.contents(manifest), 'dump', SIGNAL)), createWriteStream(file));

    const { binaries } = source.cluster;
    const env = { ...process.env, ...source.cluster.environment() };
    const { stdout } = await run(join(binaries, 'pg_restore'), ['-l', file], { env });
    expect(stdout).toContain('TABLE DATA');
    await run(join(binaries, 'pg_restore'), ['--exit-on-error', '-d', target.name, file], { env });
    // The stock pg_restore refreshes materialized views when event triggers are there already, of its own archives too.
    const differences = await compareDatabases(source.url, target.url);
    expect(differences.filter((difference) => !difference.startsWith('public.ddl_log: '))).toEqual([]);
  });

  test('exported as compressed SQL, which gunzip and psql restore', async () => {
    await using source = await testDatabase('kitchen-sink');
    await using target = await testDatabase();
    await using folder = await testFolder();
    await using repository = await newRepository(folder, ENCRYPTED);
    const manifest = await backupToRepository(repository, {
      url: source.url,
      options: dumpOptions(),
      onProgress() {},
      signal: SIGNAL,
    });

    const { binaries } = source.cluster;
    const command = `gunzip | ${binaries}/psql -X -q -v ON_ERROR_STOP=1 -d ${target.name}`;
    const child = spawn('bash', ['-o', 'pipefail', '-c', command], {
      env: { ...process.env, ...source.cluster.environment() },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (text: Buffer) => {
      stderr += text.toString();
    });
    const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
    const piped = pipeline(Readable.from(exportBackup(repository.contents(manifest), 'sql.gz', SIGNAL)), child.stdin);
    const [code] = await Promise.all([exit, piped.catch(() => {})]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(await compareDatabases(source.url, target.url)).toEqual([]);
  });
});
