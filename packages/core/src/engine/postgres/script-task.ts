/**
 * Reads a dump as one script, in whatever thread: pg_dump's plain format, looked through as it passes. It ended well only when pg_dump
 * says so by its exit code, its closing lines are there, and every table's rows have their end.
 */
import type { Json } from '../../json.ts';
import type { DumpPart, PartResult, ScriptLocator } from '../engine.ts';
import { ScriptScanner } from './script.ts';
import { startTool, type ToolRun } from './tool-process.ts';

export interface ScriptTaskSpec {
  readonly kind: 'script';
  readonly run: ToolRun;
}

/** What the part tells `Dump.finish`, as its locator on the way there. */
export interface ScriptFacts {
  readonly part: 'script';
  readonly script: ScriptLocator;
  /** Lines that pg_dump wrote to stderr. */
  readonly warnings: readonly string[];
}

export async function* readScriptTask(run: ToolRun, signal: AbortSignal): AsyncGenerator<DumpPart> {
  await using tool = await startTool(run, signal);
  const scanner = new ScriptScanner();
  let bytes = 0;
  let facts: ScriptFacts | undefined;
  async function* passing(): AsyncGenerator<Uint8Array> {
    for await (const chunk of tool.output) {
      scanner.push(chunk);
      bytes += chunk.length;
      yield chunk;
    }
    // Why pg_dump ended early is worth more than that its script is cut.
    const said = await tool.finish();
    const warnings = said.split('\n').filter((line) => line.trim() !== '');
    facts = { part: 'script', script: scanner.finish(), warnings };
  }
  yield {
    entry: 'script',
    kind: 'script',
    segment: 0,
    bytes: passing(),
    result(): PartResult {
      if (facts === undefined) throw new Error('the script has not been read to its end');
      const rows = facts.script.tables.reduce((sum, table) => sum + table.rows, 0);
      return { entry: 'script', kind: 'script', segment: 0, rows, bytes, locator: facts as unknown as Json };
    },
  };
}
