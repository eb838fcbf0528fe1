import { userInfo } from 'node:os';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CellarError } from '../../errors.ts';
import { describeTarget, parseTarget } from './target.ts';

function refusal(url: string): CellarError {
  try {
    parseTarget(url);
  } catch (error) {
    if (error instanceof CellarError) return error;
  }
  throw new Error('the URL was not refused');
}

describe('a database URL', () => {
  it('gives back every user, password, database and host that was percent-encoded into it', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 }).filter((value) => !value.includes('\0'));
    fc.assert(
      fc.property(text, text, text, fc.integer({ min: 1, max: 65_535 }), (user, password, database, port) => {
        const [u, p, d] = [user, password, database].map(encodeURIComponent);
        const plain = parseTarget(`postgres://${u}:${p}@db.example.org:${port}/${d}`);
        expect(plain).toMatchObject({ user, password, database, host: 'db.example.org', port });
        const asParameters = parseTarget(
          `postgresql:///?user=${u}&password=${p}&dbname=${d}&host=%2Frun%2Fpg&port=${port}`,
        );
        expect(asParameters).toMatchObject({ user, password, database, host: '/run/pg', port });
      }),
    );
  });

  it.each([
    ['postgres://u@h/d', { host: 'h', port: 5432, password: undefined, sslMode: 'prefer' }],
    ['postgres://u:p@h@x:1/d', { user: 'u', password: 'p@h', host: 'x', port: 1 }],
    ['postgres://u:a:b@h/d', { user: 'u', password: 'a:b' }],
    ['postgres://u@[::1]:5433/d', { host: '::1', port: 5433, sslMode: 'allow' }],
    ['postgres://u@%2Fvar%2Frun/d', { host: '/var/run', sslMode: 'allow' }],
    ['postgres://u@/d?host=/var/run/postgresql', { host: '/var/run/postgresql' }],
    ['postgres://u@h', { database: 'u' }],
    ['postgres:///d', { user: userInfo().username, host: 'localhost', database: 'd' }],
    ['postgres://u@h/a@b', { database: 'a@b', host: 'h' }],
    [
      'postgres://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem',
      { sslMode: 'verify-full', sslRootCert: '/ca.pem', sslCert: '/c.pem', sslKey: '/k.pem' },
    ],
    ['postgres://u@127.0.0.1/d?connect_timeout=3', { connectTimeoutMs: 3000, sslMode: 'allow' }],
  ])('%s means what libpq would take it for', (url, expected) => {
    expect(parseTarget(url)).toMatchObject(expected);
  });

  it.each([
    'postgres://u:s3cret@h:port/d',
    'postgres://u:s3cret@h:99999/d',
    'postgres://u:s3cret%@h/d',
    'postgres://u:s3cret@h/d?sslmode=sometimes',
    'postgres://u:s3cret@h/d?sslmod=require',
    'postgres://u@h/d?password=half&s3cret',
    'postgres://u:s3cret@h1,h2/d',
    'postgres://u:s3cret@h/d?connect_timeout=soon',
    'postgres://u:s3cret%00@h/d',
    'mysql://u:s3cret@h/d',
    'u:s3cret@h/d',
  ])('is refused without a word of its password: %s', (url) => {
    const error = refusal(url);
    expect(error.code).toBe('invalid-input');
    expect(error.hint).toBeTruthy();
    expect(JSON.stringify([error.message, error.hint, error.details, String(error.cause)])).not.toContain('s3cret');
  });

  it('is shown to people without user and password', () => {
    expect(describeTarget(parseTarget('postgres://u:s3cret@h:1/d'))).toBe('d at h:1');
  });
});
