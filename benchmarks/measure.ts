/**
 * Runs a shell pipeline and says what it cost: wall time, and the largest resident memory of Cellar's own processes in it.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';

export interface Cost {
  readonly seconds: number;
  /** Sum of the peaks of the tree's processes that are Cellar's, bytes. 0 where there is none. */
  readonly cellarPeakBytes: number;
  /** The last few kilobytes of standard output. */
  readonly stdout: string;
}

const SAMPLE_MS = 100;

/** Runs `command` with bash, `pipefail` set. Throws with the tail of its output when it fails. */
export async function measure(command: string, environment: Readonly<Record<string, string>>): Promise<Cost> {
  const started = performance.now();
  const child = spawn('bash', ['-o', 'pipefail', '-c', command], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const tails = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (text: Buffer) => {
      tails[stream] = (tails[stream] + text.toString()).slice(-4000);
    });
  }

  const peaks = new Map<number, number>();
  const sampling = setInterval(() => {
    if (child.pid !== undefined) void samplePeaks(child.pid, peaks);
  }, SAMPLE_MS);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  clearInterval(sampling);
  const seconds = (performance.now() - started) / 1000;
  if (code !== 0) throw new Error(`Exit code ${code} of: ${command}\n${tails.stderr}`);
  return { seconds, cellarPeakBytes: [...peaks.values()].reduce((sum, peak) => sum + peak, 0), stdout: tails.stdout };
}

async function samplePeaks(root: number, peaks: Map<number, number>): Promise<void> {
  const tree = [root];
  for (const pid of tree) {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    tree.push(...children.split(' ').filter(Boolean).map(Number));
  }
  for (const pid of tree) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    // The command line names itself, so that no argument shows in a process list.
    if (!/^cellar\b|\/packages\/cli\//.test(commandLine)) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    if (peak > (peaks.get(pid) ?? 0)) peaks.set(pid, peak);
  }
}
