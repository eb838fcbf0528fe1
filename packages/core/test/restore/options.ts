import type { RestoreOptions } from '../../src/engine/engine.ts';

/** A whole restore by swap; tests change what they are about. */
export const OPTIONS: RestoreOptions = {
  mode: 'swap',
  content: 'all',
  owners: 'keep',
  privileges: 'keep',
  globals: false,
  jobs: 2,
  prove: false,
  stallTimeoutMs: 30_000,
  now: new Date('2024-11-08T13:12:00Z'),
};
