/**
 * Where a worker thread begins: the compile cache first, so that the modules of the thread are not compiled anew. In plain JavaScript,
 * because types are stripped by a module of 15 MB, which a thread whose other modules come from the cache then never loads.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
await import('./take-in.ts');
