/** The `config` object: what kind of repository this is. Readable by everybody, signed under the master key. */
import { z } from 'zod';
import { CellarError, isCellarError } from '../errors.ts';
import { readSmall, type Storage } from '../storage/storage.ts';
import type { ChunkerConfig } from './chunk-spec.ts';
import {
  CONFIG_NAME,
  damaged,
  FORMAT_VERSION,
  MAX_FRAME_BYTES,
  MAX_PACK_BYTES,
  MAX_SIGNED_TEXT_BYTES,
} from './format.ts';
import { readSignedText, type SignedText } from './signed-text.ts';

export interface RepositoryConfig {
  readonly format: typeof FORMAT_VERSION;
  /** 32 hex digits, derived from the master key. */
  readonly repositoryId: string;
  readonly createdAt: string;
  readonly encrypted: boolean;
  readonly chunker: ChunkerConfig;
  /** A pack is closed when it reaches this many bytes. */
  readonly packTargetBytes: number;
}

const chunkSize = z.int().positive().max(MAX_FRAME_BYTES);

const schema: z.ZodType<RepositoryConfig> = z.object({
  format: z.literal(FORMAT_VERSION),
  repositoryId: z.string().regex(/^[0-9a-f]{32}$/),
  createdAt: z.iso.datetime(),
  encrypted: z.boolean(),
  chunker: z.discriminatedUnion('kind', [
    z
      .object({ kind: z.literal('content-defined'), minSize: chunkSize, averageSize: chunkSize, maxSize: chunkSize })
      .refine((sizes) => sizes.minSize < sizes.averageSize && sizes.averageSize < sizes.maxSize)
      .refine((sizes) => sizes.averageSize >= 64 && Number.isInteger(Math.log2(sizes.averageSize))),
    z.object({ kind: z.literal('fixed-size'), size: chunkSize }),
  ]),
  packTargetBytes: z
    .int()
    .min(1024)
    .max(MAX_PACK_BYTES / 2),
});

/** Throws `not-found` where there is no repository, `damaged` or `unsupported-format`. Not to be trusted before its signature is checked. */
export async function loadConfig(storage: Storage, signal: AbortSignal): Promise<SignedText<RepositoryConfig>> {
  try {
    return parseConfig(await readSmall(storage, CONFIG_NAME, MAX_SIGNED_TEXT_BYTES, { signal }));
  } catch (error) {
    if (!isCellarError(error, 'not-found')) throw error;
    throw new CellarError('not-found', `There is no repository at ${storage.url}.`, {
      hint: 'Check the address, or make one with "cellar init".',
      cause: error,
    });
  }
}

export function parseConfig(bytes: Uint8Array): SignedText<RepositoryConfig> {
  return readSignedText(CONFIG_NAME, bytes, schema);
}

export function exchangedConfig(): CellarError {
  return damaged(CONFIG_NAME, 'it was edited or exchanged after the repository was made');
}
