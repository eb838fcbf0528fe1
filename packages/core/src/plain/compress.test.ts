import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { gunzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { CellarError, isCellarError } from '../errors.ts';
import { type CompressOptions, compress } from './compress.ts';
import { CompressCrew } from './compress-crew.ts';
import type { Compression } from './compression.ts';
import { decompress } from './decompress.ts';

const signal = new AbortController().signal;
const MIB = 1024 * 1024;

/** Each piece is wiped when the next one is asked for. */
async function* pieces(bytes: Uint8Array, size = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = Uint8Array.from(bytes.subarray(at, at + size));
    yield piece;
    piece.fill(0);
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const piece of source) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

function compressed(
  bytes: Uint8Array,
  how: Compression,
  options: CompressOptions = {},
  size?: number,
): Promise<Buffer> {
  return collect(compress(pieces(bytes, size), how, signal, options));
}

/** Rows like those of a dump: text that repeats itself over short and long distances. */
function rows(bytes: number): Buffer {
  const lines: string[] = [];
  for (let length = 0, id = 1; length < bytes; id++) {
    const line = `${id}\t2024-11-08 12:${id % 60}:00+00\tpayment\t{"order": ${(id * 7919) % 100_003}, "sku": "SKU-${id % 97}"}\n`;
    lines.push(line);
    length += line.length;
  }
  return Buffer.from(lines.join('')).subarray(0, bytes);
}

async function throughTool(tool: string, args: readonly string[], input: Uint8Array): Promise<Buffer> {
  const child = spawn(tool, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const output = buffer(child.stdout);
  child.stdin.end(input);
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code).toBe(0);
  return await output;
}

function installed(tool: string): boolean {
  return spawnSync(tool, ['--version']).status === 0;
}

const LENGTHS = [0, 1, 1000, MIB - 1, MIB, MIB + 1, 3 * MIB, 9 * MIB + 12_345];

describe('compressing', () => {
  it.each(LENGTHS)('makes %i bytes a gzip that gunzip gives back', async (length) => {
    const bytes = rows(length);
    const file = await compressed(bytes, 'gzip');
    expect(gunzipSync(file).equals(bytes)).toBe(true);
    expect((await throughTool('gunzip', ['-c'], file)).equals(bytes)).toBe(true);
    expect((await collect(decompress(pieces(file, 777), 'gzip', signal))).equals(bytes)).toBe(true);
  });

  it.each(LENGTHS)('makes %i bytes a zstd file that is given back', async (length) => {
    const bytes = rows(length);
    const file = await compressed(bytes, 'zstd');
    expect((await collect(decompress(pieces(file, 777), 'zstd', signal))).equals(bytes)).toBe(true);
  });

  it.skipIf(!installed('zstd'))('makes zstd files that the stock zstd takes, with checksums', async () => {
    const bytes = rows(9 * MIB);
    const file = await compressed(bytes, 'zstd');
    expect((await throughTool('zstd', ['-dc'], file)).equals(bytes)).toBe(true);
  });

  it('makes one gzip member, which readers of a single member take whole', async () => {
    const bytes = rows(5 * MIB);
    const file = await compressed(bytes, 'gzip');
    const stream = new Blob([Uint8Array.from(file)]).stream().pipeThrough(new DecompressionStream('gzip'));
    expect(Buffer.from(await new Response(stream).arrayBuffer()).equals(bytes)).toBe(true);
  });

  it('takes what does not compress', async () => {
    const bytes = randomBytes(5 * MIB + 1);
    for (const how of ['gzip', 'zstd'] as const) {
      const file = await compressed(bytes, how);
      expect(file.length).toBeLessThan(bytes.length * 1.01);
      expect((await collect(decompress(pieces(file), how, signal))).equals(bytes)).toBe(true);
    }
  });

  it('gives equal files for equal input, with any number of threads and pieces of any size', async () => {
    const bytes = rows(6 * MIB + 1);
    for (const how of ['gzip', 'zstd'] as const) {
      const one = await compressed(bytes, how, { threads: 1 });
      expect((await compressed(bytes, how, { threads: 3 }, 4097)).equals(one)).toBe(true);
    }
  });

  it('is as small as gzip -6', async () => {
    const bytes = rows(8 * MIB);
    const [ours, stock] = [await compressed(bytes, 'gzip'), await throughTool('gzip', ['-6', '-c'], bytes)];
    expect(ours.length).toBeLessThan(stock.length * 1.01);
  });

  it('does not read ahead of a slow taker by more than some blocks', async () => {
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      const piece = rows(256 * 1024);
      for (;;) {
        given += piece.length;
        yield piece;
      }
    }
    let taken = 0;
    for await (const _ of compress(endless(), 'gzip', signal, { threads: 2 })) {
      if (++taken === 10) break;
    }
    expect(given).toBeLessThan(20 * MIB);
  });

  it('ends with the cancellation when it is aborted, and with the error of its source', async () => {
    const abort = new AbortController();
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield new Uint8Array(MIB);
    }
    let pieces = 0;
    const cancelledReading = (async () => {
      for await (const _ of compress(endless(), 'zstd', abort.signal)) if (++pieces === 3) abort.abort();
    })();
    await expect(cancelledReading).rejects.toSatisfy((error) => isCellarError(error, 'cancelled'));

    const reason = new CellarError('tool-failed', 'pg_dump has gone.');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield rows(3 * MIB);
      throw reason;
    }
    await expect(collect(compress(failing(), 'gzip', signal))).rejects.toBe(reason);
  });

  it('fails when a thread fails, also what waits for other threads', async () => {
    await using crew = new CompressCrew(1, signal);
    const job = { compression: 'gzip' as const, windowLength: 0, last: true };
    const broken = crew.compress({
      ...job,
      input: new ArrayBuffer(10),
      blockLength: 1000,
      output: new ArrayBuffer(10),
    });
    const behind = crew.compress({ ...job, input: new ArrayBuffer(10), blockLength: 10, output: new ArrayBuffer(100) });
    await expect(broken).rejects.toSatisfy((error) => isCellarError(error, 'tool-failed'));
    await expect(behind).rejects.toSatisfy((error) => isCellarError(error, 'tool-failed'));
  });
});

describe('decompressing', () => {
  it('takes several gzip members and zstd frames in one file', async () => {
    const parts = [rows(1000), rows(2 * MIB), rows(10)];
    const members = await Promise.all(parts.map((part) => throughTool('gzip', ['-c'], part)));
    expect(
      (await collect(decompress(pieces(Buffer.concat(members), 500), 'gzip', signal))).equals(Buffer.concat(parts)),
    ).toBe(true);
    const frames = parts.map((part) => zstdCompressSync(part));
    expect(
      (await collect(decompress(pieces(Buffer.concat(frames), 500), 'zstd', signal))).equals(Buffer.concat(parts)),
    ).toBe(true);
  });

  it.each(['gzip', 'zstd'] as const)('never takes a cut or changed %s for a whole one', async (how) => {
    const bytes = rows(300_000);
    const file = await compressed(bytes, how);
    for (const length of [0, 1, 9, 10, 18, file.length >> 1, file.length - 8, file.length - 4, file.length - 1]) {
      const reading = collect(decompress(pieces(file.subarray(0, length)), how, signal));
      await expect(reading, `cut to ${length}`).rejects.toSatisfy((error) => isCellarError(error, 'damaged'));
    }
    for (const at of [0, 1, 2, file.length >> 1, file.length - 3]) {
      const changed = Buffer.from(file);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const reading = collect(decompress(pieces(changed), how, signal));
      await expect(reading, `changed at ${at}`).rejects.toSatisfy((error) => isCellarError(error, 'damaged'));
    }
  });

  it('passes the error of its source on, and stops asking when nobody takes more', async () => {
    const file = await compressed(rows(3 * MIB), 'gzip');
    const reason = new CellarError('storage-failed', 'The disk has gone.');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield file.subarray(0, 1000);
      throw reason;
    }
    await expect(collect(decompress(failing(), 'gzip', signal))).rejects.toBe(reason);

    let ended = false;
    async function* watched(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield* pieces(file, 1000);
      } finally {
        ended = true;
      }
    }
    for await (const _ of decompress(watched(), 'gzip', signal)) break;
    expect(ended).toBe(true);
  });
});
