import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const DEMO = fileURLToPath(new URL('../../../scripts/demo.ts', import.meta.url));

/** Runs the demo without a terminal; sends SIGTERM when `until` has appeared. */
async function runDemo(until?: string): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(process.execPath, [DEMO, '--megabytes', '5'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let sent = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (until === undefined || sent || !output.includes(until)) return;
      sent = true;
      child.kill('SIGTERM');
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  return { code, output };
}

async function demoFolders(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith('cellar-demo-'));
}

test('the demo backs up, restores and proves, says what it cost, ends by itself and leaves nothing behind', async () => {
  const before = await demoFolders();
  const { code, output } = await runDemo();
  expect(output).toMatch(/^first backup +[\d.]+ s +[\d.]+ MB/m);
  expect(output).toMatch(/^second backup +[\d.]+ s/m);
  expect(output).toMatch(/Proven: all [\d,]+ rows of 10 tables/);
  expect(code).toBe(0);
  expect(await demoFolders()).toEqual(before);
});

test('a demo that is stopped half-way leaves nothing behind either', async () => {
  const before = await demoFolders();
  const { output } = await runDemo('cellar backup --description First');
  expect(output).toContain('Stopped.');
  expect(output).not.toContain('Proven');
  expect(await demoFolders()).toEqual(before);
});
