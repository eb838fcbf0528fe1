-- Partitions by range, list and hash, in several levels, with defaults, and attached with other column orders.
CREATE TABLE public.by_range (id int NOT NULL, at date NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.by_range_2023 PARTITION OF public.by_range FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE public.by_range_2024 PARTITION OF public.by_range FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (id, at);
CREATE TABLE public.by_range_2024_a PARTITION OF public.by_range_2024 FOR VALUES FROM (MINVALUE, MINVALUE) TO (150, '2024-06-01');
CREATE TABLE public.by_range_2024_rest PARTITION OF public.by_range_2024 DEFAULT;
CREATE TABLE sales."by range, default" PARTITION OF public.by_range DEFAULT;
-- Attached: another order of columns, and one dropped before.
CREATE TABLE public.by_range_2025 (note text, gone int, at date NOT NULL, id int NOT NULL);
ALTER TABLE public.by_range_2025 DROP gone;
ALTER TABLE public.by_range ATTACH PARTITION public.by_range_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO public.by_range SELECT i, date '2023-06-01' + i * 3, (ARRAY['a', 'b', NULL, 'c'])[1 + i % 4] FROM generate_series(1, 600) i;
CREATE INDEX ON public.by_range (note);
CREATE TABLE public.by_range_detached (LIKE public.by_range INCLUDING ALL);
INSERT INTO public.by_range_detached VALUES (1, '2024-01-01', 'detached');

CREATE TABLE public.by_list (id int, region text) PARTITION BY LIST (region);
CREATE TABLE public.by_list_north PARTITION OF public.by_list FOR VALUES IN ('north', 'it''s north') WITH (fillfactor = 80);
CREATE TABLE public.by_list_default PARTITION OF public.by_list DEFAULT;
INSERT INTO public.by_list SELECT i, (ARRAY['north', 'it''s north', 'south', NULL])[1 + i % 4] FROM generate_series(1, 100) i;

CREATE TABLE public.by_hash (id int, body text) PARTITION BY HASH (id);
CREATE TABLE public.by_hash_0 PARTITION OF public.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.by_hash_1 PARTITION OF public.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO public.by_hash SELECT i, 'row ' || i FROM generate_series(1, 200) i;

-- The hash of an enum depends on its OIDs: after a restore rows belong into other partitions.
CREATE TABLE public.by_enum_hash (mood sales.mood, id int) PARTITION BY HASH (mood);
CREATE TABLE public.by_enum_hash_0 PARTITION OF public.by_enum_hash FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE public.by_enum_hash_1 PARTITION OF public.by_enum_hash FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE public.by_enum_hash_2 PARTITION OF public.by_enum_hash FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO public.by_enum_hash SELECT (enum_range(NULL::sales.mood))[1 + i % 8], i FROM generate_series(1, 400) i;

CREATE TABLE public.by_expression (a int, b text) PARTITION BY RANGE ((a / 10), lower(b));
CREATE TABLE public.by_expression_low PARTITION OF public.by_expression FOR VALUES FROM (MINVALUE, MINVALUE) TO (5, 'm');
CREATE TABLE public.by_expression_high PARTITION OF public.by_expression FOR VALUES FROM (5, 'm') TO (MAXVALUE, MAXVALUE);
INSERT INTO public.by_expression SELECT i, chr(97 + i % 26) FROM generate_series(1, 90) i;
CREATE TABLE public.no_partitions (a int) PARTITION BY RANGE (a);

CREATE TABLE public.points_to_partitioned (id int PRIMARY KEY, ref int, ref_at date, FOREIGN KEY (ref, ref_at) REFERENCES public.by_range (id, at));
INSERT INTO public.points_to_partitioned SELECT id, id, at FROM public.by_range WHERE id % 50 = 0;
