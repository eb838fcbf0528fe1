#!/usr/bin/env node
/** The `cellar` command. Nothing heavy is imported before it is known what is to be done. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { main } = await import('./program.ts');
await main(process.argv.slice(2));
