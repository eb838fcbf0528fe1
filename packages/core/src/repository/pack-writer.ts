/**
 * Writes a run's packs: one fills in memory while at most one other is on its way to the storage. Whoever adds more waits, and so,
 * in the end, does the database that is read.
 */
import type { ObjectName, Storage } from '../storage/storage.ts';
import type { Subkeys } from './crypto.ts';
import { packName } from './format.ts';
import { type FinishedPack, type NewFrame, PackBuilder, packMemory } from './pack.ts';
import type { FramePlace } from './place.ts';
import type { Surroundings } from './surroundings.ts';

export interface WrittenPack extends Omit<FinishedPack, 'body'> {
  readonly object: ObjectName;
}

export interface PackWriterOptions {
  readonly storage: Storage;
  readonly subkeys: Subkeys;
  /** ULID of the backup. */
  readonly run: string;
  readonly packTargetBytes: number;
  readonly surroundings: Surroundings;
}

export class PackWriter {
  readonly #options: PackWriterOptions;
  readonly #written = new Map<string, WrittenPack>();
  /** Of packs whose upload has ended: there are never more than two. */
  readonly #freeMemory: Buffer[] = [];
  #current: { readonly builder: PackBuilder; readonly memory: Buffer } | undefined;
  #upload: Promise<void> | undefined;
  #failure: unknown;
  #failed = false;
  #serial = 0;
  #storedBytes = 0;

  constructor(options: PackWriterOptions) {
    this.#options = options;
  }

  /** Packs whose upload has ended well, by id. */
  get written(): ReadonlyMap<string, WrittenPack> {
    return this.#written;
  }

  /** Bytes of these packs. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** A name in this run that no object has yet. */
  nextName(packId: string): ObjectName {
    return packName(this.#options.run, this.#serial++, packId);
  }

  /** Puts a frame into the current pack; its place is final although the pack is not stored yet. Throws what an upload failed with. */
  async add(frame: NewFrame, signal: AbortSignal): Promise<FramePlace> {
    for (;;) {
      this.#check();
      const { builder } = this.#open();
      if (builder.empty || builder.size + frame.payload.length <= this.#options.packTargetBytes)
        return builder.add(frame);
      if (this.#upload === undefined) this.#send(signal);
      else await this.#upload;
    }
  }

  /** Resolves when everything added is stored. */
  async flush(signal: AbortSignal): Promise<void> {
    await this.#upload;
    this.#check();
    if (this.#current !== undefined) {
      this.#send(signal);
      await this.#upload;
      this.#check();
    }
  }

  /** Resolves when no upload is under way, however it ended. */
  async settle(): Promise<void> {
    await this.#upload;
  }

  #open(): { readonly builder: PackBuilder; readonly memory: Buffer } {
    if (this.#current === undefined) {
      const { subkeys, surroundings, packTargetBytes } = this.#options;
      const memory = this.#freeMemory.pop() ?? packMemory(packTargetBytes);
      this.#current = { builder: new PackBuilder(subkeys, surroundings.random(16).toString('hex'), memory), memory };
    }
    return this.#current;
  }

  /** Starts the upload of the current pack. `#upload` never rejects: the failure is kept for whoever comes next. */
  #send(signal: AbortSignal): void {
    const { builder, memory } = this.#open();
    this.#current = undefined;
    const { body, ...pack } = builder.finish();
    const object = this.nextName(pack.packId);
    this.#upload = this.#options.storage
      .put(object, body, { signal })
      .then(
        () => {
          this.#written.set(pack.packId, { ...pack, object });
          this.#storedBytes += pack.size;
        },
        (error: unknown) => {
          this.#failed = true;
          this.#failure = error;
        },
      )
      .finally(() => {
        this.#freeMemory.push(memory);
        this.#upload = undefined;
      });
  }

  #check(): void {
    if (this.#failed) throw this.#failure;
  }
}
