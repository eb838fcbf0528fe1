/**
 * From every other major version to the newest one that is installed, since a backup that was taken before an upgrade must restore
 * after it; and back, as far as that goes.
 * Where only one is installed there is nothing to try; `npm run test:majors` brings others.
 */
import { delimiter } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backupToFolder, backupToRepository } from '../../src/backup.ts';
import { NO_AGE_KEYS } from '../../src/plain/age.ts';
import { PlainFolder } from '../../src/plain/plain-folder.ts';
import { engineForUrl, openStorage } from '../../src/registry.ts';
import { createBrewery } from '../../src/testing/brewery.ts';
import { compareDatabases } from '../../src/testing/compare-databases.ts';
import { KITCHEN_SINK_EXTENSION_FILES } from '../../src/testing/kitchen-sink/extension-files.ts';
import { createKitchenSink } from '../../src/testing/kitchen-sink/kitchen-sink.ts';
import { type Cluster, installedServers, startCluster } from '../../src/testing/postgres-cluster.ts';
import { dumpOptions, newRepository, restoreTo, SIGNAL, testFolder } from './road.ts';

const servers = await installedServers();
const newest = servers[0]?.major ?? 0;

/** Counts of objects, since majors write the same definition differently. Not of those that the server makes along. */
const own = (catalog: string) =>
  `FROM ${catalog} o WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = o.oid AND deptype IN ('e', 'i'))`;
const OBJECTS = `
  SELECT json_object_agg(kind, number ORDER BY kind) FROM (
    SELECT 'constraint ' || contype::text AS kind, count(*) AS number ${own('pg_constraint')} AND contype <> 'n' GROUP BY contype
    UNION ALL SELECT 'relation ' || relkind::text, count(*) ${own('pg_class')} AND relkind <> 't' AND relnamespace <> 'pg_toast'::regnamespace GROUP BY relkind
    UNION ALL SELECT 'routine ' || prokind::text, count(*) ${own('pg_proc')} GROUP BY prokind
    UNION ALL SELECT 'operator', count(*) ${own('pg_operator')}
    UNION ALL SELECT 'trigger', count(*) ${own('pg_trigger')} AND NOT tgisinternal AND tgparentid = 0
    UNION ALL SELECT 'policy', count(*) ${own('pg_policy')}
    UNION ALL SELECT 'publication', count(*) ${own('pg_publication')}
    UNION ALL SELECT 'statistics', count(*) ${own('pg_statistic_ext')}
  ) counted`;

describe('a backup taken on another major', () => {
  let to: Cluster;
  const path = process.env['PATH'];
  beforeAll(async () => {
    process.env['PATH'] = [...servers.map(({ folder }) => folder), path].join(delimiter);
    to = await startCluster({ major: newest, extensionFiles: KITCHEN_SINK_EXTENSION_FILES });
  });
  afterAll(async () => {
    process.env['PATH'] = path;
    await to?.stop();
  });

  for (const { major } of servers.slice(1)) {
    test(`older, ${major}, restores into ${newest}, from a repository and from a plain file`, async () => {
      await using from = await startCluster({ major, extensionFiles: KITCHEN_SINK_EXTENSION_FILES });
      const source = await from.createDatabase();
      await createKitchenSink(from, source);
      await using folder = await testFolder();
      await using plainFolder = await testFolder();
      await using repository = await newRepository(folder);
      const files = new PlainFolder(await openStorage(plainFolder.path));
      const base = { url: from.url(source), onProgress() {}, signal: SIGNAL };
      const manifest = await backupToRepository(repository, { ...base, options: dumpOptions({ globals: true }) });
      const plain = await backupToFolder(files, {
        ...base,
        options: dumpOptions({ jobs: 1 }),
        compression: 'zstd',
        encryption: undefined,
        now: new Date(),
      });
      const roads = {
        repository: repository.contents(manifest),
        plain: await files.contents(plain, await engineForUrl(base.url), NO_AGE_KEYS, SIGNAL),
      };
      for (const [road, contents] of Object.entries(roads)) {
        const target = `from_${major}_${road}`;
        // A plain file has no roles: they are there by then.
        const [globals, prove] = [road === 'repository', road === 'repository'];
        await restoreTo(to.url(target), contents, { mode: 'new', globals, prove });
        const differences = await compareDatabases(base.url, to.url(target), { schema: false });
        expect(differences.filter((difference) => !difference.startsWith('extension '))).toEqual([]);
        expect(JSON.parse(await to.psql(OBJECTS, target))).toEqual(JSON.parse(await from.psql(OBJECTS, source)));
      }
    });
  }

  for (const { major } of servers.slice(1)) {
    test(`newer, ${newest}, restores into ${major}, if it has nothing that is newer`, async () => {
      await using older = await startCluster({ major });
      const source = await to.createDatabase();
      await createBrewery(to.url(source), { megabytes: 2 }, SIGNAL);
      await to.psql("SELECT lo_from_bytea(0, 'large')", source);
      await using folder = await testFolder();
      await using repository = await newRepository(folder);
      const base = { url: to.url(source), onProgress() {}, signal: SIGNAL };
      const manifest = await backupToRepository(repository, { ...base, options: dumpOptions() });
      for (const mode of ['new', 'in-place'] as const) {
        const contents = repository.contents(manifest);
        await restoreTo(older.url('back'), contents, { mode });
        expect(await compareDatabases(base.url, older.url('back'), { schema: false })).toEqual([]);
        const objects = await older.psql(OBJECTS, 'back');
        expect(JSON.parse(objects)).toEqual(JSON.parse(await to.psql(OBJECTS, source)));
      }
    });
  }
});
