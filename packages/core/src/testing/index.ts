/** What the demo and the benchmarks of other packages use: throwaway servers, sample databases, and the comparison of databases. */
export { appendRows, type BreweryOptions, brewADay, createBrewery, updateRange } from './brewery.ts';
export { type CompareOptions, compareDatabases } from './compare-databases.ts';
export { KITCHEN_SINK_EXTENSION_FILES } from './kitchen-sink/extension-files.ts';
export { createKitchenSink, setKitchenSinkDatabaseProperties } from './kitchen-sink/kitchen-sink.ts';
export {
  type Cluster,
  type ClusterAddress,
  type ClusterHandle,
  type ClusterOptions,
  connectCluster,
  installedServers,
  startCluster,
} from './postgres-cluster.ts';
