/**
 * Bytes held in buffers right now, garbage excluded: what tests of flat memory look at. The resident size of a process would also
 * count what V8 has not got round to freeing, and so depend on the machine.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

export function liveBufferBytes(): number {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    const found: unknown = runInNewContext('gc');
    if (typeof found !== 'function') throw new Error('this runtime offers no garbage collection on demand');
    collect = () => void found();
  }
  // The first pass may leave buffers to a sweep in the background; the second waits for it.
  collect();
  collect();
  return process.memoryUsage().arrayBuffers;
}
