import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { passwordFromSurroundings } from './password-file.ts';
import { parseTarget } from './target.ts';
import { toolBaseEnvironment } from './tools.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

async function withFile(text: string, check: () => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cellar-pgpass-'));
  try {
    await writeFile(join(folder, 'pgpass'), text, { mode: 0o600 });
    vi.stubEnv('PGPASSWORD', undefined);
    vi.stubEnv('PGPASSFILE', join(folder, 'pgpass'));
    await check();
  } finally {
    await rm(folder, { recursive: true });
  }
}

const of = (url: string) => passwordFromSurroundings(parseTarget(url));

test('a line for localhost is for the default socket folder too, and for no other', async () => {
  await withFile('localhost:5432:shop:app:s3cret\n', async () => {
    expect(await of('postgres://app@/shop?host=/var/run/postgresql')).toBe('s3cret');
    expect(await of('postgres://app@/shop?host=/tmp')).toBe('s3cret');
    expect(await of('postgres://app@localhost/shop')).toBe('s3cret');
    expect(await of('postgres://app@/shop?host=/srv/sockets')).toBe('');
  });
  await withFile('/srv/sockets:5432:shop:app:other\n', async () => {
    expect(await of('postgres://app@/shop?host=/srv/sockets')).toBe('other');
  });
});

test('PGPASSWORD comes before the file, for our own connections and for the tools', async () => {
  await withFile('*:*:*:*:from-the-file\n', async () => {
    vi.stubEnv('PGPASSWORD', 'from-the-variable');
    expect(await of('postgres://app@localhost/shop')).toBe('from-the-variable');
    expect(toolBaseEnvironment()).toMatchObject({ PGPASSWORD: 'from-the-variable' });
    vi.stubEnv('PGPASSWORD', '');
    expect(await of('postgres://app@localhost/shop')).toBe('');
  });
});
