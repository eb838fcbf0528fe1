/** The binary formats: what was written is read back, and whatever else is `damaged`, never a crash, a hang or something else. */
import { createHmac, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { CellarError } from '../errors.ts';
import { parseObjectName } from '../storage/storage.ts';
import { ChunkIndex } from './chunk-index.ts';
import { compressFrame, decompress } from './compression.ts';
import { parseConfig } from './config.ts';
import { deriveSubkeys, hkdf } from './crypto.ts';
import { backupName, packName, parseBackupName, parsePackName, RAW, ZSTD } from './format.ts';
import { parseKeyObject } from './key-object.ts';
import { checkHeader, FOOTER_BYTES, HEADER_BYTES, type NewFrame, PackBuilder, PackKey } from './pack.ts';
import { decodePages, encodePage, endsPage, MAX_REFS } from './page.ts';
import type { ChunkRef, FramePlace } from './place.ts';
import { formatRecoveryKey, parseRecoveryKey } from './recovery-key.ts';
import { readDocument, writeDocument } from './sealed-document.ts';
import { readSignedText, writeSignedText } from './signed-text.ts';
import { SYSTEM } from './surroundings.ts';

const keys = deriveSubkeys(Buffer.alloc(32, 7));
const NAME = parseObjectName('backups/x/y');

/** Runs a reader on bytes that may be anything: it may refuse with the errors of the format only, naming the object. */
function refusesOr<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CellarError)) throw error;
    expect(['damaged', 'unsupported-format']).toContain(error.code);
    expect(error.details.object).toEqual(expect.any(String));
    return undefined;
  }
}

function flip(bytes: Buffer, bit: number): Buffer {
  const flipped = Buffer.from(bytes);
  const at = (bit >>> 3) % bytes.length;
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
  return flipped;
}

const someFrames = fc.array(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 5 }), {
  minLength: 1,
  maxLength: 8,
});

function newFrame(chunks: readonly Uint8Array[]): NewFrame {
  const raw = Buffer.concat(chunks);
  return {
    ...compressFrame(raw),
    rawLength: raw.length,
    ids: chunks.map((chunk) => createHmac('sha256', keys.chunkIds).update(chunk).digest().subarray(0, 16)),
    lengths: chunks.map(({ length }) => length),
  };
}

function buildPack(frames: readonly (readonly Uint8Array[])[]) {
  const builder = new PackBuilder(keys, '00112233445566778899aabbccddeeff', Buffer.alloc(100));
  for (const chunks of frames) builder.add(newFrame(chunks));
  const { body, ...pack } = builder.finish();
  return { ...pack, bytes: Buffer.from(body) };
}

/** As `check` reads a pack: everything in it. */
function readPack(bytes: Buffer, packId = '00112233445566778899aabbccddeeff'): Buffer[] {
  const key = new PackKey(keys, packId);
  checkHeader('p', key, bytes.subarray(0, HEADER_BYTES));
  const trailerAt = key.openFooter('p', bytes.length, bytes.subarray(-FOOTER_BYTES));
  return key
    .openTrailer('p', trailerAt, bytes.subarray(trailerAt, -FOOTER_BYTES))
    .map(({ frame }) => key.openFrame('p', frame, bytes.subarray(frame.offset, frame.offset + frame.storedLength)));
}

describe('a pack', () => {
  test('gives back the frames that went in', () => {
    fc.assert(
      fc.property(someFrames, (frames) => {
        const { bytes, size, contentBytes } = buildPack(frames);
        expect(bytes.length).toBe(size);
        expect(size % 16384).toBe(0);
        expect(contentBytes).toBeLessThan(size);
        expect(readPack(bytes)).toEqual(frames.map((chunks) => Buffer.concat(chunks)));
      }),
    );
  });

  test('with any bit flipped is refused', () => {
    const { bytes } = buildPack([[Buffer.from('one'), Buffer.from('two')], [randomBytes(3000)]]);
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        expect(refusesOr(() => readPack(flip(bytes, bit)))).toBeUndefined();
      }),
      { numRuns: 2000 },
    );
  });

  test('cut anywhere, under another id, or made of anything is refused', () => {
    const { bytes } = buildPack([[randomBytes(500)]]);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), (length) => {
        expect(refusesOr(() => readPack(bytes.subarray(0, length)))).toBeUndefined();
      }),
    );
    expect(refusesOr(() => readPack(bytes, 'ffeeddccbbaa99887766554433221100'))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (anything) => {
        expect(refusesOr(() => readPack(Buffer.from(anything)))).toBeUndefined();
      }),
    );
  });

  test('does not take a frame for a trailer, nor a frame at another offset', () => {
    const { bytes } = buildPack([[Buffer.alloc(300, 1)], [Buffer.alloc(300, 2)]]);
    const key = new PackKey(keys, '00112233445566778899aabbccddeeff');
    const trailerAt = key.openFooter('p', bytes.length, bytes.subarray(-FOOTER_BYTES));
    const [first, second] = key.openTrailer('p', trailerAt, bytes.subarray(trailerAt, -FOOTER_BYTES));
    if (first === undefined || second === undefined) throw new Error('no frames');
    const stored = bytes.subarray(first.frame.offset, first.frame.offset + first.frame.storedLength);
    expect(refusesOr(() => key.openTrailer('p', first.frame.offset, stored))).toBeUndefined();
    expect(
      refusesOr(() => key.openFrame('p', { ...first.frame, offset: second.frame.offset }, stored)),
    ).toBeUndefined();
  });
});

const frameArb: fc.Arbitrary<FramePlace> = fc.record({
  packId: fc.constantFrom('0'.repeat(32), 'f'.repeat(32), '0123456789abcdef0123456789abcdef'),
  offset: fc.integer({ min: 24, max: 2 ** 28 }),
  storedLength: fc.integer({ min: 17, max: 2 ** 20 }),
  rawLength: fc.integer({ min: 1000, max: 2 ** 20 }),
  codec: fc.constantFrom(RAW, ZSTD),
});
const refsArb: fc.Arbitrary<ChunkRef[]> = fc
  .tuple(
    fc.uniqueArray(frameArb, { minLength: 1, maxLength: 6, selector: ({ packId, offset }) => `${packId}${offset}` }),
    fc.array(
      fc.tuple(
        fc.nat(),
        fc.integer({ min: 1, max: 500 }),
        fc.nat(500),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
      ),
      {
        minLength: 1,
        maxLength: 40,
      },
    ),
  )
  .map(([frames, refs]) =>
    refs.map(([which, length, offset, id]) => ({
      id,
      length,
      offset,
      frame: frames[which % frames.length] as FramePlace,
    })),
  );

describe('a page', () => {
  test('gives back its refs, alone and among others', () => {
    fc.assert(
      fc.property(refsArb, refsArb, (one, other) => {
        const plain = (refs: readonly ChunkRef[]) => refs.map((ref) => ({ ...ref, id: [...ref.id] }));
        expect(plain(decodePages('p', encodePage(one)))).toEqual(plain(one));
        const both = Buffer.concat([encodePage(one), encodePage(other)]);
        expect(plain(decodePages('p', both))).toEqual(plain([...one, ...other]));
        expect(encodePage(decodePages('p', encodePage(one)))).toEqual(encodePage(one));
      }),
    );
  });

  test('cut, changed or made of anything is refused or read as refs that are possible', () => {
    const possible = (refs: readonly ChunkRef[] | undefined) => {
      for (const { length, offset, frame } of refs ?? []) expect(offset + length).toBeLessThanOrEqual(frame.rawLength);
    };
    fc.assert(
      fc.property(refsArb, fc.nat(), fc.nat(), (refs, bit, cut) => {
        const page = encodePage(refs);
        possible(refusesOr(() => decodePages('p', flip(page, bit))));
        const length = cut % page.length;
        if (length > 0) expect(refusesOr(() => decodePages('p', page.subarray(0, length)))).toBeUndefined();
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (anything) => {
        possible(refusesOr(() => decodePages('p', Buffer.from(anything))));
        possible(refusesOr(() => decodePages('p', Buffer.from([1, ...anything]))));
      }),
    );
  });

  test('ends where the content says so, never before 256 refs and never after 4096', () => {
    const boundary = Buffer.alloc(16, 0xff);
    boundary.writeUInt16BE(0xfc00, 14);
    const other = Buffer.alloc(16, 0xff);
    expect([255, 256, 4095].map((count) => endsPage(boundary, count))).toEqual([false, true, true]);
    expect([255, 4095, MAX_REFS].map((count) => endsPage(other, count))).toEqual([false, false, true]);
  });
});

describe('a sealed document', () => {
  const schema = z.object({ format: z.literal(1), text: z.string() });

  test('is read back under its own name and key only', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const bytes = writeDocument(NAME, { format: 1, text }, keys, SYSTEM);
        expect(readDocument(NAME, bytes, keys, schema)).toEqual({ format: 1, text });
        expect(refusesOr(() => readDocument(parseObjectName('backups/x/z'), bytes, keys, schema))).toBeUndefined();
        const others = deriveSubkeys(Buffer.alloc(32, 8));
        expect(refusesOr(() => readDocument(NAME, bytes, others, schema))).toBeUndefined();
      }),
    );
  });

  test('flipped, cut, or made of anything is refused', () => {
    const bytes = writeDocument(NAME, { format: 1, text: 'text' }, keys, SYSTEM);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      expect(refusesOr(() => readDocument(NAME, flip(bytes, bit), keys, schema))).toBeUndefined();
    }
    for (let length = 0; length < bytes.length; length++) {
      expect(refusesOr(() => readDocument(NAME, bytes.subarray(0, length), keys, schema))).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (anything) => {
        expect(refusesOr(() => readDocument(NAME, Buffer.from(anything), keys, schema))).toBeUndefined();
      }),
    );
  });

  test('of a later version says so, and of another shape names the field', () => {
    const later = writeDocument(NAME, { format: 2, text: 'text' }, keys, SYSTEM);
    expect(() => readDocument(NAME, later, keys, schema)).toThrow(/format version 2/);
    const other = writeDocument(NAME, { format: 1, text: 5 }, keys, SYSTEM);
    expect(() => readDocument(NAME, other, keys, schema)).toThrow(/field text/);
  });
});

describe('signed text', () => {
  const schema = z.object({ format: z.literal(1), text: z.string() });

  test('tells any change', () => {
    const bytes = writeSignedText(NAME, { format: 1, text: 'täxt' }, keys);
    expect(readSignedText(NAME, bytes, schema).signedBy(keys)).toBe(true);
    expect(readSignedText(parseObjectName('other'), bytes, schema).signedBy(keys)).toBe(false);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const read = refusesOr(() => readSignedText(NAME, flip(bytes, bit), schema));
      expect(read?.signedBy(keys) ?? false).toBe(false);
    }
  });

  test('made of anything is refused, as config and as key', () => {
    const name = parseObjectName('keys/0123456789abcdef');
    const anything = fc.oneof(
      fc.string(),
      fc.json().map((json) => `${json}\n${'0'.repeat(64)}\n`),
    );
    fc.assert(
      fc.property(anything, (text) => {
        expect(refusesOr(() => parseConfig(Buffer.from(text)))).toBeUndefined();
        expect(refusesOr(() => parseKeyObject(name, Buffer.from(text)))).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  });
});

describe('a recovery key', () => {
  test('is read back, however it is typed, and any wrong character is noticed', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.nat(),
        fc.constantFrom(...'0123456789ABCDEFGHJKMNPQRSTVWXYZU'),
        (key, at, character) => {
          const text = formatRecoveryKey(key);
          expect(text).toMatch(/^CELLAR-KEY-1(-[0-9A-HJKMNP-TV-Z]{1,6})+$/);
          expect([...parseRecoveryKey(text)]).toEqual([...key]);
          expect([...parseRecoveryKey(` ${text.toLowerCase().replaceAll('-', ' ')}\n`)]).toEqual([...key]);
          const where = 13 + (at % (text.length - 13));
          if (text[where] === '-' || text[where] === character) return;
          const wrong = text.slice(0, where) + character + text.slice(where + 1);
          expect(() => parseRecoveryKey(wrong)).toThrow(/not copied right/);
        },
      ),
    );
  });
});

describe('names', () => {
  test('are taken apart as they were put together, and others are not', () => {
    const run = '01JC5Z3Q8VABCDEFGHJKMNPQRS';
    const id = '0123456789abcdef0123456789abcdef';
    expect(parsePackName(packName(run, 12, id))).toMatchObject({ run, serial: 12, packId: id });
    expect(parseBackupName(backupName(id, run))).toMatchObject({ database: id, id: run });
    for (const name of [
      `packs/ff/${run}-0-${id}`,
      `packs/01/${run}-${id}`,
      `packs/01/x-0-${id}`,
      `backups/${id}`,
      `backups/${id}/x`,
    ]) {
      expect(parsePackName(parseObjectName(name)) ?? parseBackupName(parseObjectName(name))).toBeUndefined();
    }
  });
});

describe('a chunk index', () => {
  test('finds what was added with its place, nothing else, and takes no more than its capacity', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2000 }), (capacity, count) => {
        const index = new ChunkIndex(capacity);
        const idAt = (i: number) => createHmac('sha256', 'ids').update(String(i)).digest().subarray(0, 16);
        const frameAt = (i: number): FramePlace => ({
          packId: `${i}`,
          offset: i >> 3,
          storedLength: 20,
          rawLength: 99,
          codec: RAW,
        });
        for (let i = 0; i < count; i++) index.add(idAt(i), i + 1, frameAt(i), i * 2);
        expect(index.size).toBe(Math.min(capacity, count));
        for (let i = 0; i < count + 10; i++) {
          const found = index.find(idAt(i), 0, i + 1);
          if (i >= index.size) expect(found).toBeUndefined();
          else expect(found).toEqual({ length: i + 1, frame: frameAt(i), offset: i * 2 });
          expect(index.find(idAt(i), 0, i + 2)).toBeUndefined();
        }
      }),
      { numRuns: 20 },
    );
  });
});

test('compressed frames come back, incompressible ones are kept as they are, and bombs are refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(50), (bytes, repeat) => {
      const raw = Buffer.concat(Array.from({ length: repeat + 1 }, () => bytes));
      const { codec, payload } = compressFrame(raw);
      expect(codec === ZSTD ? decompress(payload, Math.max(1, raw.length)) : Buffer.from(payload)).toEqual(raw);
    }),
  );
  const incompressible = randomBytes(200_000);
  expect(compressFrame(incompressible)).toEqual({ codec: RAW, payload: incompressible });
  expect(decompress(compressFrame(Buffer.alloc(1 << 20)).payload, 1000)).toBeUndefined();
});

test('HKDF is the one of RFC 5869 (test case 1)', () => {
  const okm = hkdf(Buffer.alloc(22, 0x0b), Buffer.from('000102030405060708090a0b0c', 'hex'), '\xf0\xf1', 42);
  expect(okm).toHaveLength(42);
  const exact = hkdf(Buffer.alloc(22, 0x0b), Buffer.alloc(0), '', 42).toString('hex');
  // Test case 3 of the RFC: no salt and no info.
  expect(exact).toBe('8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8');
});
