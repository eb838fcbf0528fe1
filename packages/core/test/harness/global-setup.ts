/**
 * Starts the one PostgreSQL server that all test files share, before the first of them, and hands its address to them.
 * Databases are cut from it by `databases.ts`. A test that harms its server starts one of its own with `startCluster()`.
 */
import type { TestProject } from 'vitest/node';
import { KITCHEN_SINK_EXTENSION_FILES } from '../../src/testing/kitchen-sink/extension-files.ts';
import { type ClusterAddress, startCluster } from '../../src/testing/postgres-cluster.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    cluster: ClusterAddress;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await startCluster({ extensionFiles: KITCHEN_SINK_EXTENSION_FILES });
  const { major, binaries, folder, port, password } = cluster;
  project.provide('cluster', { major, binaries, folder, port, password });
  return cluster.stop;
}
