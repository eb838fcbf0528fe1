/**
 * A digest of a table's rows that does not depend on their order: the sum, modulo 2^64, of a 64-bit hash per row, with the number of
 * rows. Computed from COPY text in pieces of any size, so a stored stream and a restored table are compared without either of them
 * being sorted or held in memory. It finds accidents, not forgeries: stored bytes are guarded by the repository's own digests.
 *
 * The row's hash: two 32-bit lanes that take every byte (multiply-xor with odd multipliers; the first lane's high bits flow into the
 * second), then a final mix of both. Row bytes are without the newline; COPY text holds no newline within a row.
 */
import { CellarError } from '../../errors.ts';

const NEWLINE = 10;
const SEED_A = 0x2545_f491 | 0;
const SEED_B = 0x9e37_79b9 | 0;
const MULTIPLY_A = 0x85eb_ca6b | 0;
const MULTIPLY_B = 0xc2b2_ae35 | 0;

export class RowDigest {
  #laneA = SEED_A;
  #laneB = SEED_B;
  #sumLow = 0;
  #sumHigh = 0;
  #rows = 0;
  #midRow = false;

  /** Rows that have ended so far. */
  get rows(): number {
    return this.#rows;
  }

  update(bytes: Uint8Array): void {
    const length = bytes.length;
    if (length === 0) return;
    let a = this.#laneA;
    let b = this.#laneB;
    let low = this.#sumLow;
    let high = this.#sumHigh;
    let rows = this.#rows;
    for (let index = 0; index < length; index++) {
      const byte = bytes[index] as number;
      if (byte !== NEWLINE) {
        a = Math.imul(a ^ byte, MULTIPLY_A);
        b = Math.imul(b ^ byte ^ (a >>> 15), MULTIPLY_B);
        continue;
      }
      low += mix(a ^ (b >>> 16)) >>> 0;
      high += mix(b ^ (a >>> 13)) >>> 0;
      if (low >= 0x1_0000_0000) {
        low -= 0x1_0000_0000;
        high += 1;
      }
      if (high >= 0x1_0000_0000) high -= 0x1_0000_0000;
      rows += 1;
      a = SEED_A;
      b = SEED_B;
    }
    this.#laneA = a;
    this.#laneB = b;
    this.#sumLow = low;
    this.#sumHigh = high;
    this.#rows = rows;
    this.#midRow = bytes[length - 1] !== NEWLINE;
  }

  /** `rows:sum` with the sum as 16 hexadecimal digits. Throws `damaged` when the bytes ended within a row. */
  end(): string {
    if (this.#midRow) throw new CellarError('damaged', 'A stream of rows ends in the middle of a row.');
    return `${this.#rows}:${hex(this.#sumHigh)}${hex(this.#sumLow)}`;
  }
}

/** The sum of digests of disjoint parts is the digest of the whole: for a table whose rows lie in several streams. */
export function addRowDigests(digests: readonly string[]): string {
  let rows = 0;
  let sum = 0n;
  for (const digest of digests) {
    const [count = '', value = ''] = digest.split(':');
    rows += Number(count);
    sum = BigInt.asUintN(64, sum + BigInt(`0x${value}`));
  }
  return `${rows}:${sum.toString(16).padStart(16, '0')}`;
}

/** The finaliser of MurmurHash3: every input bit reaches every output bit. */
function mix(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x85eb_ca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2_ae35);
  return mixed ^ (mixed >>> 16);
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
