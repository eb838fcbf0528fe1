import { configDefaults, defineConfig } from 'vitest/config';

/**
 * One project of Node tests. The shared PostgreSQL server is started once for all of them (see `test/harness`), and two files run
 * at a time: most tests wait for a server or a disk, and the machines that run them have few cores.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'node',
          environment: 'node',
          include: ['packages/*/src/**/*.test.ts', 'packages/*/test/**/*.test.ts', 'benchmarks/**/*.test.ts'],
          // Needs servers of several majors, which `npm run test:majors` provides.
          exclude: [
            ...configDefaults.exclude,
            ...(process.env['CELLAR_TEST_POSTGRES_BIN'] === undefined ? ['**/majors.test.ts'] : []),
          ],
          globalSetup: ['packages/core/test/harness/global-setup.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          // A test that leaves its database or its folder to the next one would pass or fail by the order of files.
          sequence: { shuffle: { tests: false, files: false } },
        },
      },
    ],
    pool: 'forks',
    maxWorkers: 2,
    reporters: ['default'],
    allowOnly: false,
    passWithNoTests: false,
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
