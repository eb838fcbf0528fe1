/** `cellar complete bash|zsh|fish`: prints the shell's completion script; the script asks back with `cellar complete -- …`. */
import completion from '@bomb.sh/tab/commander';
import type { Command } from 'commander';

/** To be called when all other commands are registered: what is completed is read from them. */
export function registerComplete(program: Command): void {
  completion(program);
}
