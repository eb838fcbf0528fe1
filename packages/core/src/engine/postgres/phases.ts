/** The phases of a restore: told as they begin, timed as they end. */
import type { OnProgress } from '../../progress.ts';

export interface PhaseTime {
  readonly phase: string;
  readonly seconds: number;
}

export class Phases {
  readonly onProgress: OnProgress;
  readonly done: PhaseTime[] = [];

  constructor(onProgress: OnProgress) {
    this.onProgress = onProgress;
  }

  async run<T>(phase: string, work: () => Promise<T>): Promise<T> {
    this.onProgress({ phase });
    const start = performance.now();
    const result = await work();
    this.done.push({ phase, seconds: (performance.now() - start) / 1000 });
    return result;
  }
}
