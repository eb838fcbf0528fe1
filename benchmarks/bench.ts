/**
 * `npm run bench`: Cellar beside the stock tools, in one run on one machine, as ratios.
 *
 *   npm run bench -- [--megabytes 500] [--rounds 3] [--only PATTERN] [--json FILE]
 *
 * Every round runs each contestant once, one after the other, so that a slow minute of the machine hits all of them;
 * what is compared is the median of the rounds. The server runs with its own defaults, `fsync` included.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { appendRows, createBrewery, updateRange } from '../packages/core/src/testing/brewery.ts';
import { startCluster } from '../packages/core/src/testing/postgres-cluster.ts';
import { Contest } from './contest.ts';
import { printReport } from './report.ts';

const { values: options } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '500' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});
const megabytes = Number(options.megabytes);
const rounds = Number(options.rounds);

const stop = new AbortController();
process.once('SIGINT', () => stop.abort(new Error('Stopped.')));

await using cluster = await startCluster({
  settings: {
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    autovacuum: 'on',
    wal_level: 'replica',
    max_wal_size: '1GB',
    checkpoint_timeout: '5min',
  },
});
const folder = await mkdtemp(join(tmpdir(), 'cellar-bench-'));
try {
  process.stderr.write(`Making a brewery of ${megabytes} MB …\n`);
  const source = await cluster.createDatabase('brewery');
  await createBrewery(cluster.url(source), { megabytes, seed: 1 }, stop.signal);
  await cluster.query('VACUUM ANALYZE', source);
  await cluster.query('CHECKPOINT', source);

  const contest = new Contest({ cluster, folder, source, rounds, only: new RegExp(options.only), signal: stop.signal });
  await contest.firstAndUnchanged();
  await contest.plainFiles();
  await contest.restores();
  await contest.changes({
    append: () => appendRows(cluster.url(source), 0.02, stop.signal),
    update: () => updateRange(cluster.url(source), 0.01, stop.signal),
  });

  printReport(contest.results, megabytes);
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(contest.results, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
