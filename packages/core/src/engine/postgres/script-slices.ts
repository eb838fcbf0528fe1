/**
 * Bytes of a script that are held while it is decided what becomes of them: slices of the chunk in hand, joined where they touch,
 * so that nothing is copied but what outlives its chunk.
 */
export class Slices {
  readonly #done: Buffer[] = [];
  #bytes: Buffer | undefined;
  #start = 0;
  #end = 0;
  /** Bytes held. */
  size = 0;

  add(bytes: Buffer, start: number, end: number): void {
    this.size += end - start;
    if (this.#bytes === bytes && this.#end === start) {
      this.#end = end;
      return;
    }
    this.#close();
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  append(other: Slices): void {
    for (const bytes of other.#done) {
      this.#close();
      this.#done.push(bytes);
      this.size += bytes.length;
    }
    if (other.#bytes !== undefined) this.add(other.#bytes, other.#start, other.#end);
  }

  /** To be called before the chunk in hand becomes invalid. */
  copyOut(): void {
    if (this.#bytes === undefined) return;
    this.#done.push(Buffer.from(this.#bytes.subarray(this.#start, this.#end)));
    this.#bytes = undefined;
  }

  clear(): void {
    this.#done.length = 0;
    this.#bytes = undefined;
    this.size = 0;
  }

  /** All that is held, as one buffer; valid as long as the chunk in hand. */
  joined(): Buffer {
    if (this.#done.length === 0) return this.#current();
    return this.#bytes === undefined && this.#done.length === 1
      ? (this.#done[0] ?? Buffer.alloc(0))
      : Buffer.concat([...this.#done, this.#current()]);
  }

  /** Hands out all that is held, in order; valid as long as the chunk in hand. */
  take(): Buffer[] {
    this.#close();
    this.size = 0;
    return this.#done.splice(0);
  }

  #current(): Buffer {
    return this.#bytes === undefined ? Buffer.alloc(0) : this.#bytes.subarray(this.#start, this.#end);
  }

  #close(): void {
    if (this.#bytes !== undefined) this.#done.push(this.#current());
    this.#bytes = undefined;
  }
}
