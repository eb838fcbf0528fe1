/**
 * The PostgreSQL engine, 13 to 18. Each capability lives in a file of its own and is loaded when it is first asked for: a backup pays
 * for no restore, and the start of a command for neither.
 */
import type { DumpPart, Engine } from '../engine.ts';
import type { PostgresTask } from './dump-task.ts';
import { publicFacts } from './public-facts.ts';
import { parseTarget } from './target.ts';

export const postgres: Engine = {
  id: 'postgres',
  schemes: ['postgres:', 'postgresql:'],
  capabilities: { splitsTables: true, swap: true },

  describe(url) {
    const { database, host, port } = parseTarget(url);
    return { database, host, port };
  },

  async probe(url, signal) {
    const { probe } = await import('./probe.ts');
    return await probe(url, signal);
  },

  async openDump(url, options, signal) {
    const { openDump } = await import('./dump.ts');
    return await openDump(url, options, signal);
  },

  async *read(task, signal): AsyncGenerator<DumpPart> {
    const { readTask } = await import('./dump-task.ts');
    // Tasks come from `openDump` and `openScriptDump` alone, in this process.
    yield* readTask((task as PostgresTask).spec, signal);
  },

  async openScriptDump(url, options, signal) {
    const { openScriptDump } = await import('./script-dump.ts');
    return await openScriptDump(url, options, signal);
  },

  async inspectScript(bytes, signal) {
    const { inspectScript } = await import('./script.ts');
    return await inspectScript(bytes, signal);
  },

  async restore(url, contents, options, onProgress, signal) {
    const { restoreDatabase } = await import('./restore.ts');
    return await restoreDatabase(url, contents, options, onProgress, signal);
  },

  publicFacts,

  async *export(contents, format, signal): AsyncGenerator<Uint8Array> {
    const { exportBackup } = await import('./export.ts');
    yield* exportBackup(contents, format, signal);
  },
};
