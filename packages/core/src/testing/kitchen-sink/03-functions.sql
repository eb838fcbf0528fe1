-- Functions, procedures, aggregates and window functions, with bodies that quoting gets wrong.
CREATE FUNCTION public.plain(a int, b int DEFAULT 2, VARIADIC rest int[] DEFAULT '{}') RETURNS int
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT a + b + coalesce((SELECT sum(x) FROM unnest(rest) x), 0)::int';
CREATE FUNCTION sales.odd_body(text) RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
  "odd name" text := $1;
BEGIN
  -- a comment; with ; semicolons and 'quotes'
  RETURN $$ dollar $$ || E'\\ back\tslash\n' || '\.' || $_$ nested $_$ || "odd name";
END
$body$;
CREATE FUNCTION public.carriage() RETURNS text LANGUAGE sql AS E'SELECT ''one''\r\n || ''two''\r\n';
CREATE FUNCTION public.overloaded(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.overloaded(text) RETURNS int LANGUAGE sql AS 'SELECT 2';
CREATE FUNCTION public.many_out(IN a int, OUT b int, OUT c text) LANGUAGE sql AS 'SELECT a, a::text';
CREATE FUNCTION public.as_table(n int) RETURNS TABLE (i int, s text) LANGUAGE sql ROWS 17 COST 3 AS 'SELECT g, g::text FROM generate_series(1, n) g';
CREATE FUNCTION public.with_settings() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = sales, "Sales Dept.", pg_temp SET work_mem = '8MB'
  AS $$ SELECT current_setting('search_path') $$;
CREATE FUNCTION public."Odd ""func.tion"" "("in put" text) RETURNS text LANGUAGE sql LEAKPROOF STRICT AS $$ SELECT "in put" $$;
CREATE PROCEDURE public.proc(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN x := x + 1; COMMIT; END $$;
CREATE AGGREGATE public.sum_of_squares(float8) (SFUNC = float8_accum, STYPE = float8[], FINALFUNC = float8_avg, INITCOND = '{0,0,0}', PARALLEL = safe);
CREATE AGGREGATE public.hypothetical(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE AGGREGATE public.moving(int) (SFUNC = int4pl, STYPE = int, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, INITCOND = '0', MINITCOND = '0');
CREATE FUNCTION public.windowed() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE STRICT AS 'window_row_number';
-- Depends on a table that is created after it: only late checking lets it in.
CREATE FUNCTION public.reads_later_table() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM public.zz_checked); END $$;
SELECT :SERVER_VERSION_NUM >= 140000 AS since_14 \gset
\if :since_14
CREATE FUNCTION public.standard_body(a int) RETURNS int RETURN a * 2;
CREATE FUNCTION sales.standard_atomic(a int) RETURNS SETOF public.same_name BEGIN ATOMIC SELECT * FROM public.same_name s WHERE s.a = $1; SELECT * FROM public.same_name; END;
CREATE PROCEDURE public.with_out(IN a int, OUT b int) LANGUAGE plpgsql AS $$ BEGIN b := a; END $$;
\endif
COMMENT ON FUNCTION public.overloaded(text) IS E'several\nlines\n\\.\nand more';
COMMENT ON AGGREGATE public.sum_of_squares(float8) IS 'an aggregate';
COMMENT ON PROCEDURE public.proc(int) IS 'a procedure';
