/**
 * Databases for tests, on the server that all test files share. A template is made by the first test that asks for it;
 * every further database of its kind is a copy, which takes a fraction of a second.
 */
import { inject } from 'vitest';
import { createBrewery } from '../../src/testing/brewery.ts';
import { createKitchenSink, setKitchenSinkDatabaseProperties } from '../../src/testing/kitchen-sink/kitchen-sink.ts';
import { type ClusterHandle, connectCluster } from '../../src/testing/postgres-cluster.ts';
import './global-setup.ts';

export type TemplateName = 'empty' | 'brewery' | 'kitchen-sink';

/** A database of one's own, dropped when disposed. */
export interface TestDatabase extends AsyncDisposable {
  readonly cluster: ClusterHandle;
  readonly name: string;
  readonly url: string;
}

/** Megabytes of rows in the brewery template: enough for several packs' worth of chunks, little enough for every test. */
const BREWERY_MEGABYTES = 12;

/** The server that all test files share. */
export function sharedCluster(): ClusterHandle {
  return connectCluster(inject('cluster'));
}

/** A fresh database: `await using database = await testDatabase('brewery')`. */
export async function testDatabase(template: TemplateName = 'empty'): Promise<TestDatabase> {
  const cluster = sharedCluster();
  const source = await templateDatabase(cluster, template);
  const name = await cluster.createDatabase(undefined, { template: source });
  if (template === 'kitchen-sink') await setKitchenSinkDatabaseProperties(cluster, name);
  return {
    cluster,
    name,
    url: cluster.url(name),
    [Symbol.asyncDispose]: async () => await cluster.dropDatabase(name),
  };
}

async function templateDatabase(cluster: ClusterHandle, template: TemplateName): Promise<string> {
  switch (template) {
    case 'empty':
      return 'template0';
    case 'brewery':
      return await ensureTemplate(cluster, 'template_brewery', async (name) => {
        await createBrewery(cluster.url(name), { megabytes: BREWERY_MEGABYTES }, AbortSignal.timeout(60_000));
      });
    case 'kitchen-sink':
      return await ensureTemplate(cluster, 'template_kitchen_sink', async (name) => {
        await createKitchenSink(cluster, name);
      });
  }
}

/** Test files run in several processes: the one that comes first makes the template, under a name nobody else looks for until it is whole. */
async function ensureTemplate(
  cluster: ClusterHandle,
  name: string,
  fill: (database: string) => Promise<void>,
): Promise<string> {
  const exists = async (): Promise<boolean> =>
    (await cluster.query('SELECT 1 FROM pg_database WHERE datname = $1', 'postgres', [name])).length > 0;
  if (await exists()) return name;
  await using _lock = await cluster.lock(name);
  if (await exists()) return name;
  const unfinished = `${name}_unfinished`;
  await cluster.dropDatabase(unfinished);
  await cluster.createDatabase(unfinished);
  await fill(unfinished);
  await cluster.query(`ALTER DATABASE ${unfinished} RENAME TO ${name}`);
  return name;
}
