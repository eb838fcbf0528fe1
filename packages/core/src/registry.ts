/**
 * The only file that names concrete engines and storages. Adapters are imported when they are first asked for,
 * so that a command pays for none that it does not use.
 */
import type { Engine, EngineId } from './engine/engine.ts';
import { CellarError } from './errors.ts';
import type { Storage } from './storage/storage.ts';

const ENGINES: Readonly<
  Record<EngineId, { readonly schemes: readonly string[]; readonly load: () => Promise<Engine> }>
> = {
  postgres: {
    schemes: ['postgres:', 'postgresql:'],
    load: async () => (await import('./engine/postgres/postgres.ts')).postgres,
  },
};

/** The engine of a manifest or task. */
export async function engineById(id: EngineId): Promise<Engine> {
  return await ENGINES[id].load();
}

/** The engine that a database URL belongs to. Throws `invalid-input`, naming the schemes there are. */
export async function engineForUrl(url: string): Promise<Engine> {
  for (const { schemes, load } of Object.values(ENGINES)) {
    if (schemes.some((scheme) => url.startsWith(`${scheme}//`))) return await load();
  }
  const known = Object.values(ENGINES).flatMap(({ schemes }) => schemes.map((scheme) => `${scheme}//…`));
  throw new CellarError('invalid-input', 'The database URL names no database engine that Cellar knows.', {
    hint: `A database URL starts with ${known.join(' or ')}, for example postgres://user@localhost:5432/shop.`,
  });
}

/** Opens the storage that a URL or a path names: `./backups`, `/srv/backups`, `file:///srv/backups`. */
export async function openStorage(url: string): Promise<Storage> {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined || scheme === 'file') {
    const { openLocalStorage } = await import('./storage/local/local-storage.ts');
    return await openLocalStorage(url);
  }
  throw new CellarError('invalid-input', `There is no storage of the kind ${scheme}://.`, {
    hint: 'Give a folder, as a path or as file:///path.',
  });
}
