/**
 * A mark in the name of an unfinished file that says which process writes it, so that the next one can clear it as soon as its writer
 * is dead: a killed dump may leave a file as large as the disk.
 *
 *   <machine, boot and process namespace, hashed>-<process id>-<its start time>
 *
 * A process judges only marks of its own machine, boot and namespace; elsewhere a number says nothing about who lives. Where the
 * system does not tell all of it (only Linux does), there is no mark, and age decides alone.
 */
import { createHash } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { systemCode } from './file-errors.ts';

let mark: Promise<string | undefined> | undefined;

/** This process's mark; undefined where there is none. */
export function ownMark(): Promise<string | undefined> {
  mark ??= readMark();
  return mark;
}

async function readMark(): Promise<string | undefined> {
  const [boot, namespace, started] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => undefined),
    readlink('/proc/self/ns/pid').catch(() => undefined),
    startTime(process.pid),
  ]);
  if (boot === undefined || namespace === undefined || started === undefined) return undefined;
  const place = createHash('sha256').update(`${hostname()}\n${boot}\n${namespace}`).digest('hex').slice(0, 16);
  return `${place}-${process.pid}-${started}`;
}

/** True only when the process of that mark lived here and lives no more. */
export async function isDead(other: string): Promise<boolean> {
  const [place, pid, started] = other.split('-');
  if (place === undefined || pid === undefined || !/^[1-9][0-9]*$/.test(pid) || started === undefined) return false;
  if ((await ownMark())?.split('-')[0] !== place) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    return systemCode(error) === 'ESRCH';
  }
  // Alive; but perhaps another process that was given the same number since.
  const now = await startTime(Number(pid));
  return now !== undefined && now !== started;
}

/** Clock ticks from the boot to the start of a process: field 22 of proc_pid_stat(5), counted after the name in parentheses. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
