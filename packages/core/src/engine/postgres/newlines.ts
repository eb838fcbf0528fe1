/** Counts newlines, four bytes at a step: they are the rows of COPY text. */

/** How many bytes 10 there are in `bytes[start, end)`. */
export function countNewlines(bytes: Uint8Array, start: number, end: number): number {
  let position = start;
  let count = 0;
  for (; position < end && (bytes.byteOffset + position) % 4 !== 0; position++) if (bytes[position] === 10) count++;
  // A range so short that it ends before the next multiple of four has no words, and no place where they could start.
  const words =
    end - position < 4 ? NO_WORDS : new Uint32Array(bytes.buffer, bytes.byteOffset + position, (end - position) >>> 2);
  for (let index = 0; index < words.length; index++) {
    // A zero byte where there was a newline; then the high bit of just those bytes ("Bit Twiddling Hacks", zero byte in a word).
    const word = (words[index] ?? 0) ^ 0x0a0a0a0a;
    const marks = ~(((word & 0x7f7f7f7f) + 0x7f7f7f7f) | word | 0x7f7f7f7f);
    if (marks !== 0) count += Math.imul(marks >>> 7, 0x01010101) >>> 24;
  }
  for (position += words.length * 4; position < end; position++) if (bytes[position] === 10) count++;
  return count;
}

const NO_WORDS = new Uint32Array(0);
