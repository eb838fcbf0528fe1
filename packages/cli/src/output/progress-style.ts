/** The ways in which progress can be shown. Apart from `progress.ts`, so that `--help` does not load what draws the bars. */
export const PROGRESS_STYLES = ['auto', 'lines', 'json', 'none'] as const;

/** `auto`: a bar on a terminal, lines elsewhere. */
export type ProgressStyle = (typeof PROGRESS_STYLES)[number];
