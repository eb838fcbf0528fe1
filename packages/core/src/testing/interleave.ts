/**
 * Drives several clients of a simulated storage through chosen orders of their storage operations. Exactly one client runs at a
 * time: it is let go into one operation and waited for until it stands before its next one or has ended. So a run is decided by the
 * list of choices alone, and all runs can be enumerated.
 *
 * Each task must do one storage operation at a time (no Promise.all over operations): then "stands or has ended" is well defined.
 */
import type { Operation, SimulatedStorage } from './simulated-storage.ts';

/** A client's name and what it does; the name must be the one its operations carry. */
export type Tasks = Readonly<Record<string, () => Promise<unknown>>>;

export interface InterleavedRun {
  /** Client names in the order in which their operations took place. */
  readonly order: readonly string[];
  /** How each task ended. */
  readonly outcomes: Readonly<Record<string, PromiseSettledResult<unknown>>>;
}

/**
 * Runs the tasks to their end. Before each operation `choose` gets the operations that the clients stand before, one per client that
 * has not ended, in the tasks' order, and returns the index of the one to go on.
 */
export async function runInterleaved(
  storage: SimulatedStorage,
  tasks: Tasks,
  choose: (waiting: readonly Operation[]) => number,
): Promise<InterleavedRun> {
  const gates = new Map<string, { readonly operation: Operation; readonly open: () => void }>();
  const outcomes: Record<string, PromiseSettledResult<unknown>> = {};
  const order: string[] = [];
  let arrived = (): void => {};
  const outer = storage.beforeOperation;
  storage.beforeOperation = async (operation) => {
    if (!(operation.client in tasks)) return;
    await new Promise<void>((open) => {
      if (gates.has(operation.client)) throw new Error(`${operation.client} does several storage operations at once`);
      gates.set(operation.client, { operation, open });
      arrived();
    });
  };
  /** Lets a client run and waits until it stands before an operation or has ended. */
  const untilItStands = async (client: string, go: () => void): Promise<void> => {
    const stands = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    go();
    if (!gates.has(client) && outcomes[client] === undefined) await stands;
  };
  try {
    for (const [client, task] of Object.entries(tasks)) {
      await untilItStands(client, () => {
        void Promise.allSettled([Promise.resolve().then(task)]).then(([outcome]) => {
          outcomes[client] = outcome;
          arrived();
        });
      });
    }
    while (true) {
      const waiting = Object.keys(tasks).flatMap((client) => gates.get(client) ?? []);
      if (waiting.length === 0) return { order, outcomes };
      const chosen = waiting[choose(waiting.map(({ operation }) => operation))];
      if (chosen === undefined) throw new Error('choose() named no waiting operation');
      const { client } = chosen.operation;
      order.push(client);
      await untilItStands(client, () => {
        gates.delete(client);
        chosen.open();
      });
    }
  } finally {
    storage.beforeOperation = outer;
  }
}

/**
 * Runs a scenario once for every order of its clients' operations (depth first), or for the first `limit` of them. `scenario` must
 * build its storage and tasks anew and be deterministic; `check` looks at each end. Returns how many orders were run.
 */
export async function everyInterleaving(
  scenario: () => Promise<{
    readonly storage: SimulatedStorage;
    readonly tasks: Tasks;
    readonly check: (run: InterleavedRun) => Promise<void> | void;
  }>,
  limit = Number.POSITIVE_INFINITY,
): Promise<number> {
  let choices: number[] = [];
  let runs = 0;
  while (true) {
    const { storage, tasks, check } = await scenario();
    const widths: number[] = [];
    const run = await runInterleaved(storage, tasks, (waiting) => {
      widths.push(waiting.length);
      return choices[widths.length - 1] ?? 0;
    });
    await check(run);
    runs++;
    const next = widths.map((_, step) => choices[step] ?? 0);
    while (next.length > 0 && (next.at(-1) ?? 0) + 1 >= (widths[next.length - 1] ?? 1)) next.pop();
    const last = next.pop();
    if (last === undefined || runs >= limit) return runs;
    choices = [...next, last + 1];
  }
}
