/**
 * Packs: many frames in one object, each sealed by itself, with a sealed trailer that says what they hold.
 *
 *   header 24 │ frame │ frame │ … │ sealed trailer (with padding) │ sealed footer 20 (offset of the trailer)
 *
 * A pack's bytes depend on nothing outside it but its key, so it can be copied whole to another name.
 * Format: docs/repository-format.md, section 4.
 */
import { createHash } from 'node:crypto';
import { decompress } from './compression.ts';
import { hkdf, NONCE_BYTES, type Subkeys, sealPieces, TAG_BYTES, unseal } from './crypto.ts';
import {
  type Codec,
  damaged,
  ID_BYTES,
  MAX_FRAME_BYTES,
  MAX_PACK_BYTES,
  PACK_PADDING,
  RAW,
  unsupported,
  ZSTD,
} from './format.ts';
import type { FramePlace } from './place.ts';

const MAGIC = Buffer.from('CELLARP\x01', 'latin1');
export const HEADER_BYTES = MAGIC.length + 16;
export const FOOTER_BYTES = 4 + TAG_BYTES;
const FRAME_RECORD_BYTES = 17;
const CHUNK_RECORD_BYTES = ID_BYTES + 4;
const FOOTER_NONCE = Buffer.alloc(NONCE_BYTES, 0xff);
const FRAME = 1;
const TRAILER = 2;
const FOOTER = 3;

/** Chunks that go into a pack together: their bytes, as they are or compressed. */
export interface NewFrame {
  readonly payload: Uint8Array;
  readonly codec: Codec;
  readonly rawLength: number;
  /** 16 bytes each. */
  readonly ids: readonly Uint8Array[];
  /** Bytes of each chunk; their sum is `rawLength`. */
  readonly lengths: readonly number[];
}

/** What a trailer says of a frame. */
export interface PackedFrame {
  readonly frame: FramePlace;
  readonly ids: readonly Uint8Array[];
  readonly lengths: readonly number[];
}

/** The key of one pack and what its seals are bound to. */
export class PackKey {
  readonly packId: string;
  readonly header: Buffer;
  readonly #key: Buffer;

  constructor(subkeys: Subkeys, packId: string) {
    const salt = Buffer.from(packId, 'hex');
    this.packId = packId;
    this.header = Buffer.concat([MAGIC, salt]);
    this.#key = hkdf(subkeys.packs, salt, 'cellar/1/pack', 32);
  }

  sealFrame(offset: number, payload: Uint8Array): Buffer[] {
    return sealPieces(this.#key, nonceAt(offset), payload, this.#associated(FRAME));
  }

  sealTrailer(offset: number, plaintext: Uint8Array): Buffer[] {
    const footer = Buffer.alloc(4);
    footer.writeUInt32BE(offset);
    return [
      ...sealPieces(this.#key, nonceAt(offset), plaintext, this.#associated(TRAILER)),
      ...sealPieces(this.#key, FOOTER_NONCE, footer, this.#associated(FOOTER)),
    ];
  }

  /** The chunks of a frame, one after the other. Throws `damaged`, naming `object`. */
  openFrame(object: string, frame: FramePlace, stored: Uint8Array): Buffer {
    const where = `its frame at byte ${frame.offset}`;
    const payload = unseal(this.#key, nonceAt(frame.offset), stored, this.#associated(FRAME));
    if (payload === undefined) throw damaged(object, `the seal of ${where} does not open`);
    const raw = frame.codec === ZSTD ? decompress(payload, Math.max(1, frame.rawLength)) : payload;
    if (raw === undefined) throw damaged(object, `${where} does not unpack`);
    if (raw.length !== frame.rawLength) throw damaged(object, `${where} has not the length it was written with`);
    return raw;
  }

  /** Where the trailer begins, out of the last 20 bytes of a pack of `size` bytes. Throws `damaged`. */
  openFooter(object: string, size: number, footer: Uint8Array): number {
    const plaintext = unseal(this.#key, FOOTER_NONCE, footer, this.#associated(FOOTER));
    if (plaintext === undefined) throw damaged(object, 'the seal of its footer does not open');
    const offset = plaintext.readUInt32BE();
    if (offset < HEADER_BYTES || offset > size - FOOTER_BYTES - TAG_BYTES) {
      throw damaged(object, 'its footer points outside of it');
    }
    return offset;
  }

  /** The frames of a pack, out of its sealed trailer at `offset`. Throws `damaged`. */
  openTrailer(object: string, offset: number, sealed: Uint8Array): PackedFrame[] {
    const plaintext = unseal(this.#key, nonceAt(offset), sealed, this.#associated(TRAILER));
    if (plaintext === undefined) throw damaged(object, 'the seal of its trailer does not open');
    return parseTrailer(object, this.packId, offset, plaintext);
  }

  #associated(part: number): Buffer {
    return Buffer.concat([this.header, Buffer.of(part)]);
  }
}

/** Throws `damaged` or `unsupported-format` unless these bytes are the header of the pack that `key` is for. */
export function checkHeader(object: string, key: PackKey, header: Uint8Array): void {
  const bytes = Buffer.from(header);
  if (bytes.equals(key.header)) return;
  if (
    bytes.subarray(0, 7).equals(MAGIC.subarray(0, 7)) &&
    bytes[7] !== MAGIC[7] &&
    bytes.subarray(8).equals(key.header.subarray(8))
  ) {
    throw unsupported(object, bytes[7]);
  }
  throw damaged(object, 'its header is not that of this pack');
}

export interface FinishedPack {
  readonly packId: string;
  /** The object's bytes: a view of the builder's memory. */
  readonly body: Uint8Array;
  readonly size: number;
  /** 64 hex digits, of the whole object. */
  readonly sha256: string;
  /** Bytes of the frames. */
  readonly contentBytes: number;
}

/** Fills one pack in memory that is lent to it: packs of a run are built in turn in the same. */
export class PackBuilder {
  readonly key: PackKey;
  #memory: Buffer;
  readonly #hash = createHash('sha256');
  readonly #frames: PackedFrame[] = [];
  #size = 0;
  #chunks = 0;

  /** @param memory what the pack is built in; a larger one is made when it does not suffice. */
  constructor(subkeys: Subkeys, packId: string, memory: Buffer) {
    this.key = new PackKey(subkeys, packId);
    this.#memory = memory;
    this.#push([this.key.header]);
  }

  get empty(): boolean {
    return this.#frames.length === 0;
  }

  /** Bytes that the pack would have if it were finished now, without its padding. */
  get size(): number {
    return (
      this.#size +
      8 +
      this.#frames.length * FRAME_RECORD_BYTES +
      this.#chunks * CHUNK_RECORD_BYTES +
      TAG_BYTES +
      FOOTER_BYTES
    );
  }

  add({ payload, codec, rawLength, ids, lengths }: NewFrame): FramePlace {
    const offset = this.#size;
    this.#push(this.key.sealFrame(offset, payload));
    const frame = { packId: this.key.packId, offset, storedLength: this.#size - offset, rawLength, codec };
    this.#frames.push({ frame, ids, lengths });
    this.#chunks += ids.length;
    return frame;
  }

  finish(): FinishedPack {
    const trailerOffset = this.#size;
    const size = Math.ceil(this.size / PACK_PADDING) * PACK_PADDING;
    const plaintext = Buffer.alloc(size - trailerOffset - TAG_BYTES - FOOTER_BYTES);
    writeTrailer(plaintext, this.#frames, this.#chunks);
    this.#push(this.key.sealTrailer(trailerOffset, plaintext));
    return {
      packId: this.key.packId,
      body: this.#memory.subarray(0, size),
      size,
      sha256: this.#hash.digest('hex'),
      contentBytes: trailerOffset - HEADER_BYTES,
    };
  }

  #grow(least: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.ceil(least * 1.5));
    this.#memory.copy(grown, 0, 0, this.#size);
    this.#memory = grown;
  }

  #push(parts: readonly Buffer[]): void {
    for (const part of parts) {
      if (this.#size + part.length > this.#memory.length) this.#grow(this.#size + part.length);
      part.copy(this.#memory, this.#size);
      this.#hash.update(part);
      this.#size += part.length;
    }
  }
}

/** Enough for a pack that is finished before its frames grow beyond `targetBytes`, with its trailer and padding. */
export function packMemory(targetBytes: number): Buffer {
  return Buffer.allocUnsafeSlow(targetBytes + MAX_FRAME_BYTES + 4 * PACK_PADDING);
}

function writeTrailer(into: Buffer, frames: readonly PackedFrame[], chunks: number): void {
  let at = into.writeUInt32BE(frames.length);
  at = into.writeUInt32BE(chunks, at);
  for (const { frame, ids } of frames) {
    at = into.writeUInt32BE(frame.offset, at);
    at = into.writeUInt32BE(frame.storedLength, at);
    at = into.writeUInt32BE(frame.rawLength, at);
    at = into.writeUInt8(frame.codec, at);
    at = into.writeUInt32BE(ids.length, at);
  }
  for (const { ids, lengths } of frames) {
    ids.forEach((id, i) => {
      into.set(id, at);
      at = into.writeUInt32BE(lengths[i] ?? 0, at + ID_BYTES);
    });
  }
}

function parseTrailer(object: string, packId: string, end: number, trailer: Buffer): PackedFrame[] {
  const wrong = (what: string) => damaged(object, `its trailer ${what}`);
  if (trailer.length < 8) throw wrong('is too short');
  const frameCount = trailer.readUInt32BE(0);
  const chunkCount = trailer.readUInt32BE(4);
  const length = 8 + frameCount * FRAME_RECORD_BYTES + chunkCount * CHUNK_RECORD_BYTES;
  if (length > trailer.length) throw wrong('is too short');
  if (trailer.subarray(length).some((byte) => byte !== 0)) throw wrong('is not padded with zeros');
  const frames: PackedFrame[] = [];
  let at = 8;
  let chunkAt = 8 + frameCount * FRAME_RECORD_BYTES;
  let offset = HEADER_BYTES;
  let chunksLeft = chunkCount;
  for (let i = 0; i < frameCount; i++, at += FRAME_RECORD_BYTES) {
    const codec = trailer.readUInt8(at + 12);
    const chunks = trailer.readUInt32BE(at + 13);
    if (codec !== RAW && codec !== ZSTD) throw unsupported(object, `codec ${codec}`);
    const frame: FramePlace = {
      packId,
      offset: trailer.readUInt32BE(at),
      storedLength: trailer.readUInt32BE(at + 4),
      rawLength: trailer.readUInt32BE(at + 8),
      codec,
    };
    if (frame.offset !== offset || frame.storedLength < TAG_BYTES) throw wrong('has a gap between its frames');
    offset += frame.storedLength;
    if (chunks > chunksLeft || frame.rawLength > MAX_FRAME_BYTES) throw wrong('is not consistent');
    chunksLeft -= chunks;
    const ids: Buffer[] = [];
    const lengths: number[] = [];
    let sum = 0;
    for (let chunk = 0; chunk < chunks; chunk++, chunkAt += CHUNK_RECORD_BYTES) {
      ids.push(trailer.subarray(chunkAt, chunkAt + ID_BYTES));
      const chunkLength = trailer.readUInt32BE(chunkAt + ID_BYTES);
      lengths.push(chunkLength);
      sum += chunkLength;
    }
    if (sum !== frame.rawLength) throw wrong('is not consistent');
    frames.push({ frame, ids, lengths });
  }
  if (offset !== end || chunksLeft !== 0) throw wrong('does not account for all of the pack');
  return frames;
}

/** Throws `damaged` for a size that no pack has. */
export function checkPackSize(object: string, size: number): void {
  if (size < PACK_PADDING || size > MAX_PACK_BYTES || size % PACK_PADDING !== 0) {
    throw damaged(object, `no pack has ${size} bytes`);
  }
}

function nonceAt(offset: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32BE(offset, NONCE_BYTES - 4);
  return nonce;
}
