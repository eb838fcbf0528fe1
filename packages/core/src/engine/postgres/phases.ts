/** The phases of a restore: told as they begin, timed as they end. */
import type { OnProgress, ProgressEvent } from '../../progress.ts';

export interface PhaseTime {
  readonly phase: string;
  readonly seconds: number;
}

export class Phases {
  readonly onProgress: OnProgress;
  readonly done: PhaseTime[];

  constructor(onProgress: OnProgress, done: PhaseTime[] = []) {
    this.onProgress = onProgress;
    this.done = done;
  }

  /**
   * For work beside a phase that is told: timed like any other, and told from `reveal` on, so that whoever draws sees one phase after
   * the other.
   */
  beside(): { readonly phases: Phases; reveal(): void } {
    let revealed = false;
    let last: ProgressEvent | undefined;
    const phases = new Phases((event) => {
      last = event;
      if (revealed) this.onProgress(event);
    }, this.done);
    const reveal = (): void => {
      revealed = true;
      if (last !== undefined) this.onProgress(last);
    };
    return { phases, reveal };
  }

  async run<T>(phase: string, work: () => Promise<T>): Promise<T> {
    this.onProgress({ phase });
    const start = performance.now();
    const result = await work();
    this.done.push({ phase, seconds: (performance.now() - start) / 1000 });
    return result;
  }
}
