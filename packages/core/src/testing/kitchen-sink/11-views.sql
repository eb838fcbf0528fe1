-- Views over views, circles of views and rules, materialised views on each other, one of them never filled.
CREATE VIEW public.simple_view AS SELECT id, name FROM public.parent;
CREATE VIEW public."View ""over"" view" ("Odd col", n) WITH (security_barrier = true) AS SELECT name, count(*) FROM public.simple_view GROUP BY name;
CREATE VIEW public.checked_view AS SELECT * FROM public.aa_lookup WHERE id < 100 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW public.recursive_view (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM recursive_view WHERE n < 5;
ALTER VIEW public.simple_view ALTER name SET DEFAULT 'from the view';
COMMENT ON VIEW public.simple_view IS 'a view';
COMMENT ON COLUMN public.simple_view.name IS 'a column of a view';
-- Depends on the primary key: can only be made after it.
CREATE VIEW public.grouped_by_key AS SELECT t.*, count(o.id) AS orphans FROM public.tree t LEFT JOIN public.orphans o ON o.tree_id = t.id GROUP BY t.id;
-- A circle: the view needs the function, the function's argument is the view's row.
CREATE VIEW public.circular_view AS SELECT 1 AS a, 'x'::text AS b;
CREATE FUNCTION public.of_circular(public.circular_view) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1.b || 'y' $$;
CREATE OR REPLACE VIEW public.circular_view AS SELECT 1 AS a, 'x'::text AS b, public.of_circular(NULL) AS c;
-- Two views that need each other through a rule.
CREATE VIEW public.ping AS SELECT 1 AS a;
CREATE VIEW public.pong AS SELECT a FROM public.ping;
CREATE RULE to_pong AS ON INSERT TO public.ping DO INSTEAD INSERT INTO public.replica_nothing SELECT new.a FROM public.pong;

CREATE MATERIALIZED VIEW public.filled AS SELECT note, count(*) AS n, sum(id) AS total FROM public.by_range GROUP BY note WITH DATA;
CREATE UNIQUE INDEX ON public.filled (note);
CREATE MATERIALIZED VIEW public.a_on_filled AS SELECT sum(n) AS n FROM public.filled;
CREATE MATERIALIZED VIEW public.never_filled AS SELECT * FROM public.parent WITH NO DATA;
CREATE MATERIALIZED VIEW sales."Mat. View" WITH (fillfactor = 90) AS SELECT * FROM public.simple_view;
CREATE VIEW public.over_materialised AS SELECT f.note, a.n FROM public.filled f, public.a_on_filled a;
ALTER MATERIALIZED VIEW public.filled OWNER TO ks_owner;
GRANT SELECT ON public.by_range TO ks_owner;
COMMENT ON MATERIALIZED VIEW public.filled IS 'filled';
SELECT :SERVER_VERSION_NUM >= 150000 AS since_15 \gset
\if :since_15
CREATE VIEW public.invoker_view WITH (security_invoker = true) AS SELECT * FROM public.parent;
\endif
