/**
 * The tables of a database as a dump sees them: which pg_dump will choose under the filters, how large they are, and how each
 * may be read. All in one statement, so that it can be asked before the locks and again within the snapshot.
 */
import type { DumpFilters } from '../engine.ts';
import type { Connection } from './connection.ts';
import { type NamePattern, parseSchemaPattern, parseTablePattern } from './pattern.ts';

export interface SourceTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** As SQL writes it, quoted where needed. */
  readonly qualifiedName: string;
  /** `r` table, `p` partitioned (no rows of its own). */
  readonly kind: 'r' | 'p';
  /** Rows are part of the dump: not excluded, not without storage. */
  readonly withData: boolean;
  readonly readable: boolean;
  /** Row security would hide rows from this user. */
  readonly rowsHidden: boolean;
  /** Bytes with TOAST, and pages of the main part. */
  readonly bytes: number;
  readonly pages: number;
  readonly estimatedRows: number;
  /** List for SQL, in the table's order, as pg_dump makes it: neither dropped nor generated. Empty: there are none. */
  readonly columns: string;
  /** pg_dump's `COPY … FROM stdin;` statement in the database's encoding, as base64. */
  readonly copyStatement: string;
  /** Belongs to an extension: only its rows are dumped, where the extension's configuration says so. */
  readonly ofExtension: boolean;
  /** Cellar's own COPY gives the bytes that pg_dump would. */
  readonly copiable: boolean;
  /** Ranges of row addresses can be read apart. */
  readonly splittable: boolean;
}

/** Exact sizes are asked of the tables themselves, which waits for their locks; estimates are of the catalog. */
export type Sizes = 'exact' | 'estimated';

/**
 * Tables and partitioned tables that a dump with these filters covers. In the session's default search path, as pg_dump, so that
 * an unqualified pattern means the same.
 */
export async function listTables(
  connection: Connection,
  filters: DumpFilters,
  sizes: Sizes,
): Promise<readonly SourceTable[]> {
  const values: string[] = [];
  const sql = tablesQuery(connection.serverMajor, filters, sizes, values);
  const rows = await connection.query(sql, 'list the tables', values);
  return rows.map((row) => {
    const flag = (name: string): boolean => row[name] === 't';
    const columns = row['columns'] ?? '';
    const copiable = flag('copiable') && columns !== '';
    return {
      oid: Number(row['oid']),
      schema: row['schema'] ?? '',
      name: row['name'] ?? '',
      qualifiedName: row['qualified_name'] ?? '',
      kind: row['kind'] === 'p' ? 'p' : 'r',
      withData: flag('with_data') && !filters.schemaOnly,
      readable: flag('readable'),
      rowsHidden: flag('rows_hidden'),
      bytes: Number(row['bytes']),
      pages: Number(row['pages']),
      estimatedRows: Math.max(0, Number(row['estimated_rows'])),
      columns,
      copyStatement: (row['copy_statement'] ?? '').replaceAll('\n', ''),
      ofExtension: flag('of_extension'),
      copiable,
      splittable: copiable && flag('splittable'),
    };
  });
}

function tablesQuery(major: number, filters: DumpFilters, sizes: Sizes, values: string[]): string {
  const bind = (text: string): string => {
    values.push(text);
    return `$${values.length}::text`;
  };
  const schemaFits = (pattern: string): string =>
    `n.nspname OPERATOR(pg_catalog.~) ${bind(parseSchemaPattern(pattern))} COLLATE pg_catalog."default"`;
  const tableFits = (pattern: string): string => {
    const { schema, name }: NamePattern = parseTablePattern(pattern);
    const scope =
      schema === undefined
        ? 'pg_catalog.pg_table_is_visible(c.oid)'
        : `n.nspname OPERATOR(pg_catalog.~) ${bind(schema)} COLLATE pg_catalog."default"`;
    return `(${scope} AND c.relname OPERATOR(pg_catalog.~) ${bind(name)} COLLATE pg_catalog."default")`;
  };
  const any = (conditions: readonly string[]): string => `(${conditions.join(' OR ')})`;

  // pg_dump: with chosen tables, the schema options have no effect, and members of extensions are not chosen by their schema.
  const wanted: string[] = [];
  if (filters.includeTables.length > 0) {
    wanted.push(any(filters.includeTables.map(tableFits)));
  } else {
    wanted.push("n.nspname OPERATOR(pg_catalog.!~) '^pg_' AND n.nspname <> 'information_schema'");
    if (filters.includeSchemas.length > 0) wanted.push(any(filters.includeSchemas.map(schemaFits)));
    if (filters.excludeSchemas.length > 0) wanted.push(`NOT ${any(filters.excludeSchemas.map(schemaFits))}`);
  }
  if (filters.excludeTables.length > 0) wanted.push(`NOT ${any(filters.excludeTables.map(tableFits))}`);
  const dataExcluded = filters.excludeTableData.length > 0 ? any(filters.excludeTableData.map(tableFits)) : 'false';

  const blockSize = "pg_catalog.current_setting('block_size')::int8";
  const estimated = sizes === 'estimated';
  const bytes = estimated ? `c.relpages * ${blockSize}` : 'COALESCE(pg_catalog.pg_table_size(c.oid), 0)';
  const pages = estimated ? 'c.relpages' : `COALESCE(pg_catalog.pg_relation_size(c.oid), 0) / ${blockSize}`;

  // Rows of a hash partition by an enum may belong elsewhere after a restore: pg_dump loads them by the root, so they are its own.
  return `
WITH RECURSIVE unsafe AS (
  SELECT partrelid AS relid FROM pg_catalog.pg_partitioned_table
  WHERE (SELECT o.oid FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am a ON o.opcmethod = a.oid
         WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash') = ANY (partclass)
  UNION
  SELECT i.inhrelid FROM unsafe JOIN pg_catalog.pg_inherits i ON i.inhparent = unsafe.relid
), configuration AS (
  SELECT unnest(extconfig) AS relid FROM pg_catalog.pg_extension
)
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
  pg_catalog.format('%I.%I', n.nspname, c.relname) AS qualified_name,
  c.relkind = 'r' AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery()) AND NOT ${dataExcluded} AS with_data,
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable,
  pg_catalog.row_security_active(c.oid) AS rows_hidden,
  CASE WHEN c.relkind = 'r' THEN ${bytes} ELSE 0 END AS bytes,
  CASE WHEN c.relkind = 'r' THEN ${pages} ELSE 0 END AS pages,
  c.reltuples::int8 AS estimated_rows,
  a.columns,
  pg_catalog.encode(pg_catalog.convert_to(
    pg_catalog.format(E'COPY %I.%I (%s) FROM stdin;\\n', n.nspname, c.relname, a.columns), pg_catalog.getdatabaseencoding()), 'base64') AS copy_statement,
  e.objid IS NOT NULL AS of_extension,
  c.relkind = 'r' AND e.objid IS NULL AND configuration.relid IS NULL AND unsafe.relid IS NULL
    AND (pg_catalog.getdatabaseencoding() = 'UTF8' OR (n.nspname || c.relname || a.columns) !~ '[^\\x01-\\x7f]') AS copiable,
  ${major >= 14} AND am.amname = 'heap' AS splittable
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
LEFT JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
LEFT JOIN (SELECT DISTINCT relid FROM configuration) configuration ON configuration.relid = c.oid
LEFT JOIN (SELECT DISTINCT relid FROM unsafe) unsafe ON unsafe.relid = c.oid
LEFT JOIN LATERAL (
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) AS columns
  FROM pg_catalog.pg_attribute
  WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
) a ON true
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND (e.objid IS NULL OR configuration.relid IS NOT NULL)
  AND ${wanted.join('\n  AND ')}
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`;
}
