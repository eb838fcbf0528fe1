/** Backups for restore tests: taken apart from a plain `pg_dump -Fc -Z0`, held in memory, with no repository in between. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BackupContents, Entry, SourceFacts } from '../../src/engine/engine.ts';
import { archiveText } from '../../src/engine/postgres/archive.ts';
import { readArchive } from '../../src/engine/postgres/archive-reader.ts';
import { connect } from '../../src/engine/postgres/connection.ts';
import { locatorJson, rowsEntryName } from '../../src/engine/postgres/locator.ts';
import { schemaDigest } from '../../src/engine/postgres/schema-digest.ts';
import { readSourceFacts } from '../../src/engine/postgres/source-facts.ts';
import { parseTarget } from '../../src/engine/postgres/target.ts';
import type { ClusterHandle } from '../../src/testing/postgres-cluster.ts';

const run = promisify(execFile);

export interface HeldBackup extends BackupContents {
  readonly bytesOf: Map<string, Buffer>;
  /** What pg_dump wrote. */
  readonly archive: Buffer;
}

export interface HoldOptions {
  readonly args?: readonly string[];
  /** Tables whose TABLE DATA is left out of the archive and carried by a `copy` locator instead, as `schema.table`. */
  readonly copied?: readonly string[];
  /** For names in an encoding other than UTF-8. */
  readonly encoding?: 'utf8' | 'latin1';
}

export async function holdBackup(
  cluster: ClusterHandle,
  database: string,
  options: HoldOptions = {},
): Promise<HeldBackup> {
  const whole = await pgDump(cluster, database, options.args ?? []);
  const copied = new Set(options.copied ?? []);
  const stored =
    copied.size === 0
      ? whole
      : await pgDump(cluster, database, [
          ...(options.args ?? []),
          ...[...copied].map((table) => `--exclude-table-data=${table}`),
        ]);
  const decode = (bytes: Buffer | null) => (bytes ?? Buffer.alloc(0)).toString(options.encoding ?? 'utf8');
  const bytesOf = new Map<string, Buffer>();
  const entries: Entry[] = [];
  const head = await readArchive(streamOf(stored));
  bytesOf.set('schema', head.head);
  entries.push({ name: 'schema', kind: 'schema', locator: {} });
  const reader = await readArchive(streamOf(whole));
  const objects: { ids: number[]; pieces: Buffer[]; rows: number } = { ids: [], pieces: [], rows: 0 };
  for (const entry of head.toc.entries) {
    if (archiveText(entry.description) === 'BLOBS') objects.ids.push(entry.dumpId);
  }
  for await (const block of reader.blocks) {
    const pieces: Buffer[] = [];
    for await (const piece of block.bytes) pieces.push(Buffer.from(piece));
    const bytes = Buffer.concat(pieces);
    const { rows } = block.counts();
    if (block.kind === 'large-objects') {
      objects.pieces.push(bytes);
      objects.rows += rows;
      continue;
    }
    const table = { schema: decode(block.entry.namespace), name: decode(block.entry.tag) };
    const name = rowsEntryName(table.schema, table.name);
    bytesOf.set(name, bytes);
    const tableEntry = head.toc.entries.find(
      ({ description, oid }) => archiveText(description) === 'TABLE' && oid?.equals(block.entry.oid ?? Buffer.alloc(0)),
    );
    const dataEntry = head.toc.entries.find(
      ({ description, oid }) =>
        archiveText(description) === 'TABLE DATA' && oid?.equals(block.entry.oid ?? Buffer.alloc(0)),
    );
    entries.push({
      name,
      kind: 'rows',
      table,
      rows,
      locator:
        dataEntry === undefined
          ? locatorJson({
              from: 'copy',
              tableDumpId: tableEntry?.dumpId ?? 0,
              tableOid: Number(decode(block.entry.oid)),
              copyStatement: (block.entry.copyStatement ?? Buffer.alloc(0)).toString('base64'),
            })
          : locatorJson({ from: 'archive', dumpId: dataEntry.dumpId }),
    });
  }
  if (objects.ids.length > 0) {
    bytesOf.set('large-objects', Buffer.concat(objects.pieces));
    entries.push({
      name: 'large-objects',
      kind: 'large-objects',
      rows: objects.rows,
      locator: locatorJson({ dumpIds: objects.ids }),
    });
  }
  return {
    source: await facts(cluster, database, schemaDigest(reader.toc)),
    entries,
    bytesOf,
    archive: whole,
    ...opening(bytesOf),
  };
}

function opening(bytesOf: ReadonlyMap<string, Buffer>): Pick<BackupContents, 'open' | 'sizeOf'> {
  return {
    sizeOf: ({ name }) => bytesOf.get(name)?.length,
    open: ({ name }) => streamOf(bytesOf.get(name) ?? Buffer.alloc(0)),
  };
}

/** In pieces of an odd size, each overwritten as soon as the next is asked for, as the ports allow. */
export async function* streamOf(bytes: Buffer, pieceSize = 77_777): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceSize) {
    const piece = Buffer.from(bytes.subarray(start, start + pieceSize));
    yield piece;
    piece.fill(0x21);
  }
}

export async function pgDump(cluster: ClusterHandle, database: string, args: readonly string[]): Promise<Buffer> {
  const { stdout } = await run(join(cluster.binaries, 'pg_dump'), ['-Fc', '-Z0', ...args], {
    env: { ...cluster.environment(database), PGTZ: 'UTC', PGOPTIONS: '-c bytea_output=hex' },
    encoding: 'buffer',
    maxBuffer: 1024 * 1024 * 1024,
  });
  return stdout;
}

async function facts(cluster: ClusterHandle, database: string, digest: string): Promise<SourceFacts> {
  await using connection = await connect(parseTarget(cluster.url(database)), new AbortController().signal);
  const { source } = await readSourceFacts(connection, []);
  return { ...source, schemaDigest: digest };
}
