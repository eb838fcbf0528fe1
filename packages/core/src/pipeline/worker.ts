/** Where a worker thread begins: the compile cache first, so that the modules of the thread are not stripped and compiled anew. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
await import('./take-in.ts');
