/**
 * Pages: a stretch of a recipe as bytes. Equal lists of refs give equal bytes, and a page ends where the content says so, so the pages of
 * unchanged stretches are those of the backup before and are stored once. Format: docs/repository-format.md, section 5.
 */
import { TAG_BYTES } from './crypto.ts';
import { damaged, ID_BYTES, MAX_FRAME_BYTES, RAW, unsupported, ZSTD } from './format.ts';
import { HEADER_BYTES } from './pack.ts';
import { type ChunkRef, type FramePlace, sameFrame } from './place.ts';

const VERSION = 1;
const HEAD_BYTES = 7;
const PACK_BYTES = 16;
const FRAME_BYTES = 15;
const REF_BYTES = ID_BYTES + 10;
const MIN_REFS = 256;
export const MAX_REFS = 4096;

/** Whether a page of `count` refs ends after this one. */
export function endsPage(id: Uint8Array, count: number): boolean {
  if (count >= MAX_REFS) return true;
  const low = ((id[ID_BYTES - 2] ?? 0) << 8) | (id[ID_BYTES - 1] ?? 0);
  return count >= MIN_REFS && (low & 0x3ff) === 0;
}

/** @param refs 1 to `MAX_REFS`. */
export function encodePage(refs: readonly ChunkRef[]): Buffer {
  const packs: string[] = [];
  const packIndex = new Map<string, number>();
  const frames: FramePlace[] = [];
  const frameIndex = new Map<string, number>();
  const indexes = refs.map(({ frame }) => {
    const last = frames.at(-1);
    if (last !== undefined && sameFrame(last, frame)) return frames.length - 1;
    const key = `${frame.packId}/${frame.offset}`;
    const known = frameIndex.get(key);
    if (known !== undefined) return known;
    if (!packIndex.has(frame.packId)) packIndex.set(frame.packId, packs.push(frame.packId) - 1);
    frameIndex.set(key, frames.length);
    return frames.push(frame) - 1;
  });

  const page = Buffer.alloc(
    HEAD_BYTES + packs.length * PACK_BYTES + frames.length * FRAME_BYTES + refs.length * REF_BYTES,
  );
  let at = page.writeUInt8(VERSION);
  for (const count of [packs.length, frames.length, refs.length]) at = page.writeUInt16BE(count, at);
  for (const packId of packs) at += page.write(packId, at, 'hex');
  for (const frame of frames) {
    at = page.writeUInt16BE(packIndex.get(frame.packId) ?? 0, at);
    at = page.writeUInt32BE(frame.offset, at);
    at = page.writeUInt32BE(frame.storedLength, at);
    at = page.writeUInt32BE(frame.rawLength, at);
    at = page.writeUInt8(frame.codec, at);
  }
  refs.forEach(({ id, length, offset }, i) => {
    page.set(id, at);
    at = page.writeUInt32BE(length, at + ID_BYTES);
    at = page.writeUInt16BE(indexes[i] ?? 0, at);
    at = page.writeUInt32BE(offset, at);
  });
  return page;
}

/**
 * Pages one after the other, back as refs. Throws `damaged`, naming `object`, when they are anything but what `encodePage` makes, or a
 * place is impossible.
 */
export function decodePages(object: string, bytes: Buffer): ChunkRef[] {
  const refs: ChunkRef[] = [];
  let rest = bytes;
  while (rest.length > 0) rest = decodePage(object, rest, refs);
  return refs;
}

function decodePage(object: string, page: Buffer, into: ChunkRef[]): Buffer {
  const wrong = (what: string) => damaged(object, `a page of a recipe ${what}`);
  if (page.length < HEAD_BYTES) throw wrong('is too short');
  if (page.readUInt8(0) !== VERSION) throw unsupported(object, page.readUInt8(0));
  const packCount = page.readUInt16BE(1);
  const frameCount = page.readUInt16BE(3);
  const refCount = page.readUInt16BE(5);
  const end = HEAD_BYTES + packCount * PACK_BYTES + frameCount * FRAME_BYTES + refCount * REF_BYTES;
  if (end > page.length) throw wrong('is too short');
  if (refCount === 0 || refCount > MAX_REFS) throw wrong('has an impossible number of refs');

  let at = HEAD_BYTES;
  const packs: string[] = [];
  for (let i = 0; i < packCount; i++, at += PACK_BYTES) packs.push(page.toString('hex', at, at + PACK_BYTES));
  const frames: FramePlace[] = [];
  for (let i = 0; i < frameCount; i++, at += FRAME_BYTES) {
    const packId = packs[page.readUInt16BE(at)];
    const codec = page.readUInt8(at + 14);
    if (codec !== RAW && codec !== ZSTD) throw unsupported(object, `codec ${codec}`);
    const offset = page.readUInt32BE(at + 2);
    const storedLength = page.readUInt32BE(at + 6);
    const rawLength = page.readUInt32BE(at + 10);
    const possible = offset >= HEADER_BYTES && storedLength > TAG_BYTES && storedLength <= 2 * MAX_FRAME_BYTES;
    if (packId === undefined || !possible || rawLength > MAX_FRAME_BYTES) throw wrong('names an impossible place');
    frames.push({ packId, offset, storedLength, rawLength, codec });
  }
  for (let i = 0; i < refCount; i++, at += REF_BYTES) {
    const length = page.readUInt32BE(at + ID_BYTES);
    const frame = frames[page.readUInt16BE(at + ID_BYTES + 4)];
    const offset = page.readUInt32BE(at + ID_BYTES + 6);
    if (frame === undefined || length === 0 || offset + length > frame.rawLength)
      throw wrong('names an impossible place');
    into.push({ id: page.subarray(at, at + ID_BYTES), length, frame, offset });
  }
  return page.subarray(end);
}
