/** The verb: a backup as one file of the stock tools, streamed. */
import type { BackupContents } from './engine/engine.ts';
import { assertNever } from './errors.ts';
import { compress } from './plain/compress.ts';
import { engineById } from './registry.ts';

/** `sql`: a script for psql; `sql.gz`: the same compressed; `dump`: an archive for pg_restore. */
export type ExportAs = 'sql' | 'sql.gz' | 'dump';

/** The arrays are the caller's to keep: an export often goes through a stream that reads ahead. */
export async function* exportBackup(
  contents: BackupContents,
  as: ExportAs,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of exported(contents, as, signal)) yield new Uint8Array(piece);
}

/** Yields arrays that are valid until the next one is asked for. */
async function* exported(contents: BackupContents, as: ExportAs, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const engine = await engineById(contents.source.engine);
  switch (as) {
    case 'sql':
    case 'dump':
      yield* engine.export(contents, as, signal);
      return;
    case 'sql.gz':
      yield* compress(engine.export(contents, 'sql', signal), 'gzip', signal);
      return;
    default:
      assertNever(as);
  }
}
