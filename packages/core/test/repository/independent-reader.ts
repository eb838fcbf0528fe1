/**
 * A reader of the repository format written from docs/repository-format.md alone: it imports nothing of Cellar. It proves that the
 * document suffices, and that the program does not drift away from it.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync, scryptSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';

interface Segment {
  readonly bytes: number;
  readonly chunks: number;
  readonly digest: string;
  readonly level: 0 | 1;
  readonly refs: string;
}

interface Manifest {
  readonly id: string;
  readonly database: string;
  readonly entries: readonly { name: string; bytes: number; digest: string; segments: readonly Segment[] }[];
  readonly packs: readonly { id: string; object: string; size: number; sha256: string | null }[];
}

interface Ref {
  readonly id: Buffer;
  readonly length: number;
  readonly offset: number;
  readonly pack: string;
  readonly frame: { offset: number; stored: number; raw: number; codec: number };
}

type Wrapping =
  | { readonly kind: 'none'; readonly masterKey: string }
  | { readonly kind: 'passphrase'; n: number; r: number; p: number; salt: string; nonce: string; sealed: string };

/** Every backup in a folder: id, database, and the bytes of its entries. Throws when anything is not as specified. */
export function readRepository(
  folder: string,
  passphrase: string,
): { readonly id: string; readonly database: string; readonly entries: Record<string, Buffer> }[] {
  const read = (name: string) => readFileSync(join(folder, name));
  const list = (prefix: string) =>
    readdirSync(join(folder, prefix), { recursive: true, withFileTypes: true })
      .filter((file) => file.isFile())
      .map((file) => join(file.parentPath, file.name).slice(folder.length + 1));

  const [configLine = '', configMac] = read('config').toString().split('\n');
  const config = JSON.parse(configLine) as { format: number; repositoryId: string };
  const [keyName = ''] = list('keys');
  const [keyLine = '', keyMac] = read(keyName).toString().split('\n');
  const master = unwrap((JSON.parse(keyLine) as { wrapping: Wrapping }).wrapping, keyName, passphrase);
  const subkey = (purpose: string, length = 32) => hkdf(master, Buffer.alloc(0), `cellar/1/${purpose}`, length);
  same(subkey('repository-id', 16).toString('hex'), config.repositoryId);
  const sign = (name: string, line: string) =>
    hmac(subkey('signatures'), Buffer.from(`${name}\n${line}`)).toString('hex');
  same(sign('config', configLine), configMac);
  same(sign(keyName, keyLine), keyMac);

  const document = (name: string): unknown => {
    const bytes = read(name);
    same(bytes.toString('latin1', 0, 8), 'CELLARD\x01');
    const key = hkdf(subkey('documents'), bytes.subarray(8, 24), 'cellar/1/document', 32);
    const plain = open(key, Buffer.alloc(12), bytes.subarray(24), Buffer.from(name));
    return JSON.parse(zstdDecompressSync(plain.subarray(4, 4 + plain.readUInt32BE())).toString());
  };

  const chunk = (manifest: Manifest, ref: Ref): Buffer => {
    const pack = manifest.packs.find(({ id }) => id === ref.pack);
    if (pack === undefined) throw new Error(`no pack ${ref.pack}`);
    const bytes = read(pack.object);
    same(bytes.length, pack.size);
    if (pack.sha256 !== null) same(createHash('sha256').update(bytes).digest('hex'), pack.sha256);
    const header = bytes.subarray(0, 24);
    same(header.toString('latin1', 0, 8), 'CELLARP\x01');
    const key = hkdf(subkey('packs'), header.subarray(8), 'cellar/1/pack', 32);
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32BE(ref.frame.offset, 8);
    const stored = bytes.subarray(ref.frame.offset, ref.frame.offset + ref.frame.stored);
    const payload = open(key, nonce, stored, Buffer.concat([header, Buffer.of(1)]));
    const raw = ref.frame.codec === 1 ? zstdDecompressSync(payload) : payload;
    same(raw.length, ref.frame.raw);
    const result = raw.subarray(ref.offset, ref.offset + ref.length);
    same(hmac(subkey('chunk-ids'), result).toString('hex', 0, 16), ref.id.toString('hex'));
    return result;
  };

  return list('backups').map((name) => {
    const manifest = document(name) as Manifest;
    const hash = hmac(subkey('database-names'), Buffer.from(manifest.database)).toString('hex', 0, 16);
    same(name, `backups/${hash}/${manifest.id}`);
    const entries = manifest.entries.map((entry): [string, Buffer] => {
      const digests = createHash('sha256');
      const bytes = entry.segments.map((segment) => {
        const root = pages(Buffer.from(segment.refs, 'base64'));
        const refs = segment.level === 0 ? root : root.flatMap((page) => pages(chunk(manifest, page)));
        const digest = createHash('sha256');
        for (const { id, length } of refs) {
          const size = Buffer.alloc(4);
          size.writeUInt32BE(length);
          digest.update(id).update(size);
        }
        same(digest.digest('hex'), segment.digest);
        same(refs.length, segment.chunks);
        digests.update(Buffer.from(segment.digest, 'hex'));
        return Buffer.concat(refs.map((ref) => chunk(manifest, ref)));
      });
      same(digests.digest('hex'), entry.digest);
      const all = Buffer.concat(bytes);
      same(all.length, entry.bytes);
      return [entry.name, all];
    });
    return { id: manifest.id, database: manifest.database, entries: Object.fromEntries(entries) };
  });
}

function pages(bytes: Buffer): Ref[] {
  const refs: Ref[] = [];
  for (let at = 0; at < bytes.length; ) {
    same(bytes.readUInt8(at), 1);
    const [packs, frames, count] = [1, 3, 5].map((offset) => bytes.readUInt16BE(at + offset));
    if (packs === undefined || frames === undefined || count === undefined) throw new Error('no counts');
    const packsAt = at + 7;
    const framesAt = packsAt + packs * 16;
    const refsAt = framesAt + frames * 15;
    for (let i = 0; i < count; i++) {
      const ref = refsAt + i * 26;
      const frame = framesAt + bytes.readUInt16BE(ref + 20) * 15;
      const pack = packsAt + bytes.readUInt16BE(frame) * 16;
      refs.push({
        id: bytes.subarray(ref, ref + 16),
        length: bytes.readUInt32BE(ref + 16),
        offset: bytes.readUInt32BE(ref + 22),
        pack: bytes.toString('hex', pack, pack + 16),
        frame: {
          offset: bytes.readUInt32BE(frame + 2),
          stored: bytes.readUInt32BE(frame + 6),
          raw: bytes.readUInt32BE(frame + 10),
          codec: bytes.readUInt8(frame + 14),
        },
      });
    }
    at = refsAt + count * 26;
  }
  return refs;
}

function unwrap(wrapping: Wrapping, name: string, passphrase: string): Buffer {
  if (wrapping.kind === 'none') return Buffer.from(wrapping.masterKey, 'base64');
  const { n, r, p } = wrapping;
  const bytes = (text: string) => Buffer.from(text, 'base64');
  const key = scryptSync(passphrase.normalize('NFC'), bytes(wrapping.salt), 32, { N: n, r, p, maxmem: 256 * n * r });
  return open(key, bytes(wrapping.nonce), bytes(wrapping.sealed), Buffer.from(name));
}

function open(key: Buffer, nonce: Buffer, sealed: Buffer, associated: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(associated).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

function hkdf(key: Buffer, salt: Buffer, info: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, length));
}

function hmac(key: Buffer, bytes: Buffer): Buffer {
  return createHmac('sha256', key).update(bytes).digest();
}

function same(found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${String(found)} is not ${String(expected)}`);
}
