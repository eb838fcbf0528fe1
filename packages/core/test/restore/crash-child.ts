/** Runs one restore of a held backup in a process of its own, so that a test can kill it. Arguments: a file of JSON. */
import { readFile } from 'node:fs/promises';
import type { BackupContents, RestoreOptions } from '../../src/engine/engine.ts';
import { restoreDatabase } from '../../src/engine/postgres/restore.ts';
import { streamOf } from './backup-contents.ts';

interface Work {
  readonly url: string;
  readonly contents: Pick<BackupContents, 'source' | 'entries'>;
  /** Entry name to base64. */
  readonly bytes: Readonly<Record<string, string>>;
  readonly options: RestoreOptions;
  /** Stops giving bytes of this entry kind half-way, says so on stdout, and waits to be killed. */
  readonly stopIn: string;
  /** How many times such an entry is read whole before. */
  readonly skip: number;
}

let skip = 0;
const work: Work = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));
const contents: BackupContents = {
  ...work.contents,
  sizeOf: () => undefined,
  async *open(entry) {
    const bytes = Buffer.from(work.bytes[entry.name] ?? '', 'base64');
    if (entry.kind !== work.stopIn || skip++ < work.skip) return yield* streamOf(bytes);
    yield* streamOf(bytes.subarray(0, bytes.length / 2), 4096);
    process.stdout.write('half-way\n');
    await new Promise(() => setInterval(() => {}, 1000));
  },
};
await restoreDatabase(
  work.url,
  contents,
  { ...work.options, now: new Date(work.options.now) },
  () => {},
  new AbortController().signal,
);
