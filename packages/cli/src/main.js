#!/usr/bin/env node
/**
 * The `cellar` command. Nothing heavy is imported before it is known what is to be done. In plain JavaScript, because types are
 * stripped by a module of 15 MB, which a process whose other modules come from the compile cache then never loads.
 */
import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

enableCompileCache();
// What passes through is buffers, which V8 frees with the short-lived objects that hold them, and of those there are few: a small
// nursery is emptied often, so that dead buffers do not pile up in the threads.
setFlagsFromString('--max-semi-space-size=1');

const { main } = await import('./program.ts');
await main(process.argv.slice(2));
