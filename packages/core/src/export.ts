/** The verb: a backup as one file of the stock tools, streamed. */
import type { BackupContents } from './engine/engine.ts';
import { assertNever } from './errors.ts';
import { compress } from './plain/compress.ts';
import { engineById } from './registry.ts';

/** `sql`: a script for psql; `sql.gz`: the same compressed; `dump`: an archive for pg_restore. */
export type ExportAs = 'sql' | 'sql.gz' | 'dump';

export async function* exportBackup(
  contents: BackupContents,
  as: ExportAs,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
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
