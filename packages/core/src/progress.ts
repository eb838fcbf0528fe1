/**
 * Progress of long work, as plain events that any front end can draw: the command line as bars or lines, the server as events.
 * Counters only grow within a phase; a phase's totals are estimates unless `exact`.
 */
export interface ProgressEvent {
  /** What is going on, in words of `architecture.md`: 'dump', 'upload', 'commit', 'load', 'post-data', 'compare', 'swap', … */
  readonly phase: string;
  /** The entry or object in hand, where there is one. */
  readonly item?: string;
  /** Bytes done so far in this phase. */
  readonly bytes?: number;
  readonly totalBytes?: number;
  readonly rows?: number;
  /** Steps done and to do, where the phase counts things: tables, packs, backups. */
  readonly done?: number;
  readonly total?: number;
  readonly exact?: boolean;
}

export type OnProgress = (event: ProgressEvent) => void;
