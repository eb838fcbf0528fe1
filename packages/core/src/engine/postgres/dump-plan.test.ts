import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PLAN_SIZES, planDump } from './dump-plan.ts';
import type { SourceTable } from './tables.ts';

const PAGE = 8192;

function table(oid: number, pages: number, options: Partial<SourceTable> = {}): SourceTable {
  return {
    oid,
    schema: 'public',
    name: `t${oid}`,
    qualifiedName: `public.t${oid}`,
    kind: 'r',
    withData: true,
    readable: true,
    rowsHidden: false,
    bytes: pages * PAGE,
    pages,
    estimatedRows: 0,
    columns: 'a, b',
    copyStatement: 'Q09QWQ==',
    ofExtension: false,
    copiable: true,
    splittable: true,
    ...options,
  };
}

function statements(tables: readonly SourceTable[]): readonly string[] {
  return planDump(tables, PLAN_SIZES)
    .copies.flat()
    .map(({ statement }) => statement);
}

describe('the plan of a dump', () => {
  it('reads every page of every table once, in segments without gaps, the last one open', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 200_000 }), fc.integer({ min: 1, max: 40 })), { maxLength: 8 }),
        (given) => {
          const tables = given.map(([pages, toast], index) => table(index + 1, pages, { bytes: pages * PAGE * toast }));
          const { copies, copied, archivedBytes } = planDump(tables, PLAN_SIZES);
          const pieces = copies.flat();
          for (const { table: large, segments } of copied) {
            const ranges = pieces.filter(({ oid }) => oid === large.oid);
            expect(ranges.map(({ segment }) => segment)).toEqual(Array.from({ length: segments }, (_, index) => index));
            if (segments === 1) {
              expect(ranges[0]?.statement).toBe(`COPY public.t${large.oid} (a, b) TO STDOUT`);
              continue;
            }
            let from = 0;
            ranges.forEach(({ statement }, index) => {
              const bounds = /WHERE ctid >= '\((\d+),0\)'(?: AND ctid < '\((\d+),0\)')?\) TO STDOUT$/.exec(statement);
              expect(Number(bounds?.[1])).toBe(from);
              expect(bounds?.[2] === undefined).toBe(index === segments - 1);
              from = Number(bounds?.[2]);
            });
          }
          const copiedBytes = copied.reduce((sum, { table: large }) => sum + large.bytes, 0);
          expect(copiedBytes + archivedBytes).toBe(tables.reduce((sum, { bytes }) => sum + bytes, 0));
        },
      ),
    );
  });

  it('repeats the cuts of a table that has grown, so that the next backup finds its segments again', () => {
    const before = statements([table(1, 100_000)]);
    const after = statements([table(1, 104_000), table(2, 500)]);
    expect(before.length).toBe(13);
    expect(after.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
    // A little more TOAST moves nothing.
    expect(statements([table(1, 100_000, { bytes: 100_000 * PAGE * 1.2 })])).toEqual(before);
  });

  it('leaves to pg_dump what is small or not safe to copy, cuts nothing that has no row addresses, and skips what is without rows', () => {
    const tables = [
      table(1, 10),
      table(2, 50_000, { copiable: false }),
      table(3, 50_000, { splittable: false }),
      table(4, 50_000, { withData: false }),
      table(5, 1000),
    ];
    const plan = planDump(tables, PLAN_SIZES);
    expect(plan.copied.map(({ table: { oid }, segments }) => [oid, segments])).toEqual([
      [3, 1],
      [5, 1],
    ]);
    expect(plan.archivedBytes).toBe(50_010 * PAGE);
  });

  it('puts several small tables into one task, and gives each segment of a large one its own', () => {
    const small = Array.from({ length: 40 }, (_, index) => table(index + 10, 256));
    const { copies } = planDump([table(1, 30_000), ...small], PLAN_SIZES);
    expect(copies.length).toBeLessThan(7);
    for (const task of copies.slice(0, 3)) expect(task).toHaveLength(1);
    expect(copies.flat()).toHaveLength(44);
  });

  it('names no more tables to pg_dump than fit its arguments', () => {
    const many = Array.from({ length: 12_000 }, (_, index) => table(index + 1, 200 + index));
    const { copied } = planDump(many, PLAN_SIZES);
    expect(copied.length).toBeLessThan(12_000);
    expect(Math.min(...copied.map(({ table: { pages } }) => pages))).toBeGreaterThan(200);
    expect(copied.reduce((sum, { table: { schema, name } }) => sum + schema.length + name.length + 10, 0)).toBeLessThan(
      600_000,
    );
  });
});
