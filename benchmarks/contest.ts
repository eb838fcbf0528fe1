/**
 * The contestants: what is run, in which order, and what must be fresh before each. A result is a list of timings by name;
 * `report.ts` knows which are compared with which.
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClusterHandle } from '../packages/core/src/testing/postgres-cluster.ts';
import { measure } from './measure.ts';

export interface ContestSetup {
  readonly cluster: ClusterHandle;
  readonly folder: string;
  readonly source: string;
  readonly rounds: number;
  readonly only: RegExp;
  readonly signal: AbortSignal;
}

export interface Results {
  /** Seconds of each round, by contestant. */
  readonly seconds: Record<string, number[]>;
  /** Largest resident memory of Cellar's processes, bytes, by contestant. */
  readonly peakBytes: Record<string, number>;
  /** Bytes that a backup added to the repository, by contestant (the last round's). */
  readonly newBytes: Record<string, number>;
}

const CELLAR = new URL('../packages/cli/src/main.js', import.meta.url).pathname;
const RESTIC = ['/usr/bin/restic', '/usr/local/bin/restic'].find((path) => existsSync(path));

export class Contest {
  readonly results: Results = { seconds: {}, peakBytes: {}, newBytes: {} };
  readonly #setup: ContestSetup;
  readonly #repository: string;
  readonly #directoryDump: string;

  constructor(setup: ContestSetup) {
    this.#setup = setup;
    this.#repository = join(setup.folder, 'repository');
    this.#directoryDump = join(setup.folder, 'dump.d');
  }

  /** Whole backups of a database that does not change, the first into an empty repository. */
  async firstAndUnchanged(): Promise<void> {
    const restic = join(this.#setup.folder, 'restic');
    for (let round = 0; round < this.#setup.rounds; round++) {
      await this.#run('pg_dump -Fd -j2 -Z0', `${this.#pgDump('-Fd -j2 -Z0')} -f ${this.#fresh('raw.d')}`);
      await this.#run('pg_dump -Fd -j2', `${this.#pgDump('-Fd -j2')} -f ${this.#fresh('dump.d')}`);
      await this.#remove('repository');
      await this.#cellar(`init --repo ${this.#repository} --encrypt`);
      await this.#backup('cellar first');
      await this.#backup('cellar unchanged');
      if (RESTIC !== undefined) {
        await this.#remove('restic');
        await this.#shell(`${RESTIC} -r ${restic} init`);
        const backup = `${this.#pgDump('-Fc -Z0')} | ${RESTIC} -r ${restic} backup --stdin --stdin-filename brewery.dump`;
        await this.#run('restic first', backup);
        await this.#run('restic unchanged', backup);
      }
    }
  }

  async plainFiles(): Promise<void> {
    for (let round = 0; round < this.#setup.rounds; round++) {
      await this.#run('pg_dump | gzip', `${this.#pgDump('-Fp')} | gzip > ${this.#fresh('plain.sql.gz')}`);
      await this.#remove('plain');
      const folder = join(this.#setup.folder, 'plain');
      await this.#run('cellar plain', `${this.#command('backup')} --to-dir ${folder}`);
    }
    await this.#remove('plain');
  }

  /** Restores into a database of their own each, of the last backup and the last directory dump. */
  async restores(): Promise<void> {
    const { cluster, rounds } = this.#setup;
    for (let round = 0; round < rounds; round++) {
      await cluster.dropDatabase('stock');
      await cluster.createDatabase('stock');
      await this.#run('pg_restore -j2', `${cluster.binaries}/pg_restore -j2 -d stock ${this.#directoryDump}`);
      await cluster.dropDatabase('stock');
      await cluster.dropDatabase('ours');
      await cluster.query('CHECKPOINT');
      const url = cluster.socketUrl('ours');
      await this.#run(
        'cellar restore',
        `${this.#command('restore')} latest --repo ${this.#repository} --to "${url}" --mode new --jobs 2 --yes`,
      );
      await cluster.dropDatabase('ours');
      await cluster.query('CHECKPOINT');
    }
  }

  /** What a backup adds after rows were appended, and after others were updated as well. */
  async changes(make: { append: () => Promise<unknown>; update: () => Promise<unknown> }): Promise<void> {
    if (!this.#wanted('cellar appended')) return;
    await make.append();
    await this.#backup('cellar appended');
    await make.update();
    await this.#backup('cellar updated');
  }

  async #backup(name: string): Promise<void> {
    if (!this.#wanted(name)) return;
    const before = await this.#repositoryBytes();
    await this.#run(name, `${this.#command('backup')} --repo ${this.#repository} --jobs 2`);
    this.results.newBytes[name] = (await this.#repositoryBytes()) - before;
  }

  async #repositoryBytes(): Promise<number> {
    const { stdout } = await measure(`du -sb ${this.#repository} | cut -f1`, {});
    return Number(stdout.trim());
  }

  async #run(name: string, command: string): Promise<void> {
    if (!this.#wanted(name)) return;
    this.#setup.signal.throwIfAborted();
    const cost = await this.#shell(command);
    this.results.seconds[name] = [...(this.results.seconds[name] ?? []), cost.seconds];
    this.results.peakBytes[name] = Math.max(this.results.peakBytes[name] ?? 0, cost.cellarPeakBytes);
    process.stderr.write(`  ${name.padEnd(24)} ${cost.seconds.toFixed(2)} s\n`);
  }

  #wanted(name: string): boolean {
    return this.#setup.only.test(name);
  }

  #command(verb: string): string {
    return `${process.execPath} ${CELLAR} ${verb}`;
  }

  #cellar(rest: string): Promise<unknown> {
    return this.#shell(this.#command(rest));
  }

  #pgDump(options: string): string {
    return `${this.#setup.cluster.binaries}/pg_dump ${options} ${this.#setup.source}`;
  }

  #shell(command: string): ReturnType<typeof measure> {
    const { cluster, source } = this.#setup;
    return measure(command, {
      ...cluster.environment(),
      PGHOST: cluster.folder,
      DATABASE_URL: cluster.socketUrl(source),
      CELLAR_PASSPHRASE: 'a long and winding benchmark',
      RESTIC_PASSWORD: 'a long and winding benchmark',
    });
  }

  #fresh(name: string): string {
    return `$(rm -rf ${join(this.#setup.folder, name)}; echo ${join(this.#setup.folder, name)})`;
  }

  async #remove(name: string): Promise<void> {
    await rm(join(this.#setup.folder, name), { recursive: true, force: true });
  }
}
