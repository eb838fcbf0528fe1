/**
 * Signed text: an object of two lines, a JSON object for everybody to read and its HMAC under the master key, so that an edited or
 * exchanged `config` or key is noticed. The signature covers the line as it is stored: nothing needs canonical JSON.
 */
import type { z } from 'zod';
import type { ObjectName } from '../storage/storage.ts';
import { equalBytes, hmac, type Subkeys } from './crypto.ts';
import { damaged, FORMAT_VERSION, unsupported } from './format.ts';

export interface SignedText<T> {
  readonly content: T;
  /** Whether the holder of `keys` wrote it, under this name. */
  readonly signedBy: (keys: Subkeys) => boolean;
}

export function writeSignedText(name: ObjectName, content: object, keys: Subkeys): Buffer {
  const line = JSON.stringify(content);
  return Buffer.from(`${line}\n${sign(name, line, keys).toString('hex')}\n`);
}

/** Throws `damaged` or `unsupported-format`. The content is not to be trusted before `signedBy` says so. */
export function readSignedText<T>(name: ObjectName, bytes: Uint8Array, schema: z.ZodType<T>): SignedText<T> {
  const match = /^([^\n]+)\n([0-9a-f]{64})\n$/.exec(Buffer.from(bytes).toString('utf8'));
  if (match === null) throw damaged(name, 'it is not two lines of text');
  const [, line = '', signature = ''] = match;
  const parsed = parseDocument(name, line, schema);
  return {
    content: parsed,
    signedBy: (keys) => equalBytes(sign(name, line, keys), Buffer.from(signature, 'hex')),
  };
}

/** JSON text as what `schema` says, with `format` looked at first. */
export function parseDocument<T>(name: string, text: string, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw damaged(name, 'it holds no JSON', cause);
  }
  if (typeof json === 'object' && json !== null && 'format' in json && json.format !== FORMAT_VERSION) {
    throw unsupported(name, json.format);
  }
  const result = schema.safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw damaged(name, `its field ${issue?.path.join('.') || '(whole)'} is not right: ${issue?.message ?? 'unknown'}`);
  }
  return result.data;
}

function sign(name: ObjectName, line: string, keys: Subkeys): Buffer {
  return hmac(keys.signatures, `${name}\n${line}`);
}
