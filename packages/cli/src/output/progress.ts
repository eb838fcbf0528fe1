/**
 * Progress on stderr: a bar with bytes, rows, rate and time left on a terminal; a line now and then where there is none (a log of
 * cron or CI); JSON lines where a program wants to follow. Drawn from the library's plain events, one phase after the other.
 */
import type { OnProgress, ProgressEvent } from '@cellar/core';
import progress from 'cli-progress';
import { formatBytes, formatCount, formatDuration, printable } from './format.ts';
import type { ProgressStyle } from './progress-style.ts';

/** Shows events while the work goes on. To be stopped before anything else is written to stderr. */
export interface ProgressView extends Disposable {
  readonly onProgress: OnProgress;
  stop(): void;
}

/** A line this often where there is no terminal. */
const LINE_EVERY_MS = 10_000;
/** JSON lines come no more often than this within a phase. */
const JSON_EVERY_MS = 500;
/** The rate is that of the last seconds, so that it tells what is going on now. */
const RATE_WINDOW_MS = 10_000;

export function startProgress(style: ProgressStyle, stderr: NodeJS.WriteStream): ProgressView {
  switch (style) {
    case 'none':
      return { onProgress: () => {}, stop: () => {}, [Symbol.dispose]: () => {} };
    case 'json':
      return jsonProgress(stderr);
    case 'auto':
    case 'lines':
      return style === 'auto' && stderr.isTTY ? barProgress(stderr) : lineProgress(stderr);
  }
}

/** A phase as it goes on: the latest counters, and what follows from them. */
class Phase {
  readonly name: string;
  readonly startedAt: number;
  latest: ProgressEvent;
  #samples: { readonly at: number; readonly bytes: number }[] = [];

  constructor(event: ProgressEvent, now: number) {
    this.name = event.phase;
    this.startedAt = now;
    this.latest = event;
  }

  update(event: ProgressEvent, now: number): void {
    this.latest = { ...this.latest, ...event };
    this.#samples.push({ at: now, bytes: event.bytes ?? 0 });
    while ((this.#samples[1]?.at ?? now) < now - RATE_WINDOW_MS) this.#samples.shift();
  }

  /** Bytes per second of late; undefined while there is too little to tell. */
  rate(now: number): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || now - first.at < 500) return undefined;
    return ((last.bytes - first.bytes) * 1000) / (now - first.at);
  }

  /** Part done, from 0 to 1; by bytes where they are known, else by steps. An estimate never says that all is done. */
  fraction(): number | undefined {
    const { bytes, totalBytes, done, total, exact } = this.latest;
    const fraction =
      totalBytes !== undefined && totalBytes > 0
        ? (bytes ?? 0) / totalBytes
        : total !== undefined && total > 0
          ? (done ?? 0) / total
          : undefined;
    if (fraction === undefined) return undefined;
    return Math.min(fraction, exact ? 1 : 0.99);
  }

  millisecondsLeft(now: number): number | undefined {
    const { bytes, totalBytes } = this.latest;
    const rate = this.rate(now);
    if (totalBytes === undefined || bytes === undefined || bytes >= totalBytes || !rate) return undefined;
    return ((totalBytes - bytes) * 1000) / rate;
  }

  /** `312 MB of 560 MB, 1,204,332 rows, 92 MB/s, 3s left`. */
  words(now: number): string {
    const { bytes, totalBytes, rows, done, total, exact } = this.latest;
    const rate = this.rate(now);
    const left = this.millisecondsLeft(now);
    return [
      bytes === undefined || bytes === 0 ? undefined : `${formatBytes(bytes)}${ofTotal(totalBytes, exact)}`,
      rows === undefined || rows === 0 ? undefined : `${formatCount(rows)} rows`,
      done === undefined || total === undefined ? undefined : `${formatCount(done)} of ${formatCount(total)}`,
      rate === undefined || rate === 0 ? undefined : `${formatBytes(rate)}/s`,
      left === undefined ? undefined : `${formatDuration(Math.ceil(left / 1000) * 1000)} left`,
    ]
      .filter((part) => part !== undefined)
      .join(', ');
  }

  /** Short phases come and go: only what moved bytes or took a while is left on the screen. */
  isWorthALine(now: number): boolean {
    return (this.latest.bytes ?? 0) > 0 || now - this.startedAt >= 500;
  }

  /** What the whole phase came to. */
  summary(now: number): string {
    const { bytes, rows, done } = this.latest;
    return [
      bytes === undefined || bytes === 0 ? undefined : formatBytes(bytes),
      rows === undefined || rows === 0 ? undefined : `${formatCount(rows)} rows`,
      done === undefined || bytes !== undefined ? undefined : formatCount(done),
      formatDuration(now - this.startedAt),
    ]
      .filter((part) => part !== undefined)
      .join(', ');
  }
}

function ofTotal(totalBytes: number | undefined, exact: boolean | undefined): string {
  if (totalBytes === undefined || totalBytes === 0) return '';
  return exact ? ` of ${formatBytes(totalBytes)}` : ` of about ${formatBytes(totalBytes)}`;
}

function barProgress(stderr: NodeJS.WriteStream): ProgressView {
  let phase: Phase | undefined;
  const bar = new progress.SingleBar({
    stream: stderr,
    fps: 8,
    hideCursor: true,
    clearOnComplete: true,
    // Rates and times go on changing when nothing arrives: then that is what must be seen.
    forceRedraw: true,
    etaAsynchronousUpdate: false,
    format: () => (phase === undefined ? '' : drawBar(phase, stderr.columns)),
  });
  let running = false;
  const finish = () => {
    if (!running || phase === undefined) return;
    bar.stop();
    running = false;
    const now = Date.now();
    if (phase.isWorthALine(now)) stderr.write(`  ${phase.name.padEnd(NAME_WIDTH)} ${phase.summary(now)}\n`);
    phase = undefined;
  };
  return {
    onProgress: (event) => {
      const now = Date.now();
      if (phase?.name !== event.phase) {
        finish();
        phase = new Phase(event, now);
        bar.start(1, 0);
        running = true;
      }
      phase.update(event, now);
    },
    stop: finish,
    [Symbol.dispose]: finish,
  };
}

const BAR_WIDTH = 24;
/** The longest names of phases; a longer one only loses its alignment. */
const NAME_WIDTH = 13;

function drawBar(phase: Phase, columns: number): string {
  const fraction = phase.fraction();
  const filled = Math.round((fraction ?? 0) * BAR_WIDTH);
  const bar = fraction === undefined ? '' : `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)} `;
  const percent = fraction === undefined ? '' : `${Math.floor(fraction * 100)} %`.padStart(5);
  const item = phase.latest.item === undefined ? '' : `  ${printable(phase.latest.item)}`;
  const line = `  ${phase.name.padEnd(NAME_WIDTH)} ${bar}${percent}  ${phase.words(Date.now())}${item}`;
  return line.slice(0, Math.max(20, columns - 1));
}

function lineProgress(stderr: NodeJS.WriteStream): ProgressView {
  let phase: Phase | undefined;
  let writtenAt = 0;
  const finish = () => {
    if (phase !== undefined) stderr.write(`${phase.name}: done, ${phase.summary(Date.now())}\n`);
    phase = undefined;
  };
  return {
    onProgress: (event) => {
      const now = Date.now();
      if (phase?.name !== event.phase) {
        finish();
        phase = new Phase(event, now);
        writtenAt = now;
      }
      phase.update(event, now);
      if (now - writtenAt < LINE_EVERY_MS) return;
      writtenAt = now;
      stderr.write(`${phase.name}: ${phase.words(now)}\n`);
    },
    stop: finish,
    [Symbol.dispose]: finish,
  };
}

function jsonProgress(stderr: NodeJS.WriteStream): ProgressView {
  let phase: string | undefined;
  let writtenAt = 0;
  let held: ProgressEvent | undefined;
  const write = (event: ProgressEvent) => {
    const { phase: name, item, bytes, totalBytes, rows, done, total, exact } = event;
    const line = { phase: name, item, bytes, total_bytes: totalBytes, rows, done, total, exact };
    stderr.write(`${JSON.stringify({ progress: line })}\n`);
  };
  const flush = () => {
    if (held !== undefined) write(held);
    held = undefined;
  };
  return {
    onProgress: (event) => {
      const now = Date.now();
      if (event.phase !== phase) flush();
      else if (now - writtenAt < JSON_EVERY_MS) {
        held = event;
        return;
      }
      phase = event.phase;
      writtenAt = now;
      held = undefined;
      write(event);
    },
    stop: flush,
    [Symbol.dispose]: flush,
  };
}
