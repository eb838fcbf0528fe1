import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CopyReader } from './copy-reader.ts';

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 0);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** As the server answers a COPY, with the messages that may come at any time in between. */
function answer(rows: readonly Buffer[], ending: readonly Buffer[]): Buffer {
  return Buffer.concat([
    message('H', Buffer.from([0, 0, 1, 0, 0])),
    ...rows.flatMap((row, index) => [
      message('d', row),
      ...(index % 3 === 1
        ? [message('N', Buffer.from('SNOTICE\0Mhello\0\0')), message('S', Buffer.from('TimeZone\0UTC\0'))]
        : []),
    ]),
    ...ending,
  ]);
}

const READY = message('Z', Buffer.from('T'));

/** Pushes the bytes in pieces to a reader whose consumer takes now and then; returns what the consumer got. */
function readThrough(reader: CopyReader, bytes: Buffer, sizes: readonly number[], takeEvery: number): Buffer {
  const got: Buffer[] = [];
  const take = (): boolean => {
    const ready = reader.takeReady();
    if (ready === undefined) return false;
    got.push(Buffer.from(ready));
    reader.release();
    return true;
  };
  let turn = 0;
  for (let start = 0; start < bytes.length; ) {
    const piece = Buffer.from(bytes.subarray(start, start + (sizes[turn % sizes.length] ?? 1)));
    const taken = reader.push(piece);
    start += taken;
    if (turn++ % takeEvery === 0 || taken === 0) take();
  }
  while (take());
  return Buffer.concat(got);
}

const rows = fc.array(
  fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 2000 })).map((bytes) => Buffer.from(bytes)),
  { maxLength: 60 },
);
const sizes = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 });

describe('the reader of a COPY', () => {
  it('gathers the payloads of all rows whatever the pieces they come in', () => {
    fc.assert(
      fc.property(rows, sizes, fc.integer({ min: 1, max: 5 }), (given, cuts, takeEvery) => {
        const reader = new CopyReader();
        const bytes = answer(given, [
          message('c', Buffer.alloc(0)),
          message('C', Buffer.from(`COPY ${given.length}\0`)),
          READY,
        ]);
        expect(readThrough(reader, bytes, cuts, takeEvery).equals(Buffer.concat(given))).toBe(true);
        expect(reader.finished).toBe(true);
        expect(reader.rows).toBe(given.length);
        expect(reader.error).toBeUndefined();
      }),
    );
  });

  it('passes more than its buffers hold to a consumer that is slow, refusing what it has no room for', () => {
    const given = Array.from({ length: 4000 }, (_, index) => Buffer.alloc(1000, index % 251));
    const reader = new CopyReader();
    const bytes = answer(given, [message('c', Buffer.alloc(0)), message('C', Buffer.from('COPY 4000\0')), READY]);
    expect(reader.push(bytes)).toBeLessThan(1_100_000);
    const rest = new CopyReader();
    expect(readThrough(rest, bytes, [300_000], 3).equals(Buffer.concat(given))).toBe(true);
  });

  it('reports the complaint of a server that gives up in the middle of the rows', () => {
    const complaint = message('E', Buffer.from('SERROR\0VERROR\0C57014\0Mcanceling statement\0Dbecause\0\0'));
    const reader = new CopyReader();
    readThrough(reader, answer([Buffer.from('1\n')], [complaint, READY]), [5], 1);
    expect(reader.finished).toBe(true);
    expect(reader.error).toMatchObject({ message: 'canceling statement', code: '57014', detail: 'because' });
  });

  it('does not wait for more after a fatal complaint', () => {
    const complaint = message('E', Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0'));
    const reader = new CopyReader();
    readThrough(reader, answer([Buffer.from('1\n')], [complaint]), [100], 1);
    expect(reader.finished).toBe(true);
    expect(reader.error).toMatchObject({ code: '57P01' });
  });

  it('does not take a COPY for complete that the server did not count', () => {
    const reader = new CopyReader();
    readThrough(reader, answer([Buffer.from('1\n')], [READY]), [100], 1);
    expect(reader.error).toBeDefined();
  });

  it('gives up on what is no message', () => {
    const reader = new CopyReader();
    readThrough(
      reader,
      Buffer.concat([Buffer.from('H'), Buffer.from([0x7f, 0xff, 0xff, 0xff]), Buffer.alloc(100)]),
      [100],
      1,
    );
    expect(reader.error).toBeDefined();
  });
});
