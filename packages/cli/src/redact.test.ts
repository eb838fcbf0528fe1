import { expect, test } from 'vitest';
import { redact } from './redact.ts';

test.each([
  ['postgres://app:s3cret@db/shop', 'postgres://app:***@db/shop'],
  ["unknown command 'postgres://app:p@ss:w@db/shop'", "unknown command 'postgres://app:***@db/shop'"],
  ['postgres://:only@/shop', 'postgres://:***@/shop'],
  [
    'postgres://db/shop?user=a&password=s3cret&sslmode=require',
    'postgres://db/shop?user=a&password=***&sslmode=require',
  ],
  ['postgres://app@db:5432/shop', 'postgres://app@db:5432/shop'],
  ['file:///srv/backups', 'file:///srv/backups'],
])('%s is shown as %s', (text, shown) => {
  expect(redact(text)).toBe(shown);
});
