/**
 * Encodings of scripts. Names are compared as bytes and decoded for people only; what matters is that no byte of a character can be
 * mistaken for a quote or backslash, as in PostgreSQL's client-only encodings (manual, 23.3.1).
 */
import { CellarError } from '../../errors.ts';

/** Encodings whose characters may hold the bytes of ASCII characters. */
const UNSAFE = new Set(['SJIS', 'SHIFT_JIS_2004', 'SHIFTJIS2004', 'BIG5', 'GBK', 'UHC', 'GB18030', 'JOHAB']);

/** PostgreSQL's names to those of the WHATWG Encoding Standard, where they differ by more than punctuation. */
const LABELS: Readonly<Record<string, string>> = {
  UTF8: 'utf-8',
  UNICODE: 'utf-8',
  SQLASCII: 'utf-8',
  LATIN5: 'iso-8859-9',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  EUCJP: 'euc-jp',
  EUCKR: 'euc-kr',
  EUCCN: 'gb18030',
};

export function refuseUnsafeEncoding(encoding: string): void {
  if (!UNSAFE.has(encoding.toUpperCase())) return;
  throw new CellarError(
    'unsupported-format',
    `The script is in the encoding ${encoding}, in which quotes cannot be told apart safely.`,
    {
      hint: 'Dump the database again with pg_dump --encoding=UTF8, or restore this script with psql by hand.',
    },
  );
}

/** @param raw bytes as a `latin1` string. Undecodable bytes become U+FFFD; an encoding that is not known is taken as UTF-8. */
export function decodeName(raw: string, encoding: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what is outside of ASCII is what is asked
  if (/^[\x00-\x7f]*$/.test(raw)) return raw;
  const label = labelOf(encoding);
  return label === 'latin1' ? raw : new TextDecoder(label).decode(Buffer.from(raw, 'latin1'));
}

/** Whether names in it can be decoded for certain. */
export function knowsEncoding(encoding: string): boolean {
  const name = encoding.toUpperCase().replaceAll(/[^A-Z0-9]/g, '');
  return name === 'UTF8' || name === 'LATIN1' || (labelOf(encoding) !== 'utf-8' && name !== 'SQLASCII');
}

function labelOf(encoding: string): string {
  const name = encoding.toUpperCase().replaceAll(/[^A-Z0-9]/g, '');
  if (name === 'LATIN1') return 'latin1';
  const label =
    LABELS[name] ??
    name
      .replace(/^WIN(\d+)$/, 'windows-$1')
      .replace(/^LATIN(\d+)$/, 'latin$1')
      .replace(/^ISO8859(\d+)$/, 'iso-8859-$1');
  try {
    return new TextDecoder(label).encoding;
  } catch {
    return 'utf-8';
  }
}
