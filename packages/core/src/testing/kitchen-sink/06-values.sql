-- Values at the edges of their types, and text that looks like the dump's own syntax.
CREATE TABLE public.numbers (id int, f8 float8, f4 float4, n numeric, i8 bigint, i2 smallint, m numeric(1000, 500));
INSERT INTO public.numbers VALUES
  (1, 'NaN', 'NaN', 'NaN', 9223372036854775807, 32767, NULL), (2, 'Infinity', 'Infinity', 0, -9223372036854775808, -32768, 0.1),
  (3, '-Infinity', '-Infinity', -0.0, 0, 0, 1e499), (4, '-0', '-0', 1e-1000, NULL, NULL, 1e-500),
  (5, 5e-324, 1e-45, 1e1000, 1, 1, NULL), (6, 1.7976931348623157e308, 3.4028235e38, 0.10000000000000000000000001, 2, 2, NULL),
  (7, 0.1::float8 + 0.2, 0.1::float4 + 0.2::float4, 1.10, 3, 3, NULL), (8, pi(), pi(), 100.000, 4, 4, NULL);
CREATE TABLE public.times (id int, d date, t timestamp, tz timestamptz, ti time, tt timetz, iv interval);
INSERT INTO public.times VALUES
  (1, '4713-01-01 BC', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC', '00:00:00', '00:00:00+15:59:59', '-178000000 years'),
  (2, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '24:00:00', '24:00:00-15:59:59', '178000000 years'),
  (3, 'infinity', 'infinity', 'infinity', '12:34:56.789', '12:34:56.789+05:45', '1 year -2 mons 3 days -04:05:06.789'),
  (4, '-infinity', '-infinity', '-infinity', NULL, NULL, '0'),
  (5, '1900-01-01', '1883-11-18 12:00:00.000001', '1883-11-18 12:00:00-04:56:02', '23:59:59.999999', '00:00:00.000001+00', '-1 microsecond'),
  (6, '2024-03-10', '2024-03-10 02:30:00', '2024-10-27 02:30:00+01', NULL, NULL, '-1 day +00:00:01');
CREATE TABLE public.texts (id int, t text, c char(10), v varchar(20), n name, ch "char");
INSERT INTO public.texts VALUES
  (1, '', '', '', '', ''), (2, NULL, NULL, NULL, NULL, NULL), (3, '\.', '\.', '\.', '\.', '\'), (4, E'\\.\n', E'\n', E'\r\n', E'\t', E'\n'),
  (5, E'tab\there', E'cr\r', E'\\N', 'x', 'x'), (6, '\N', ' lead', 'trail ', '"', '"'), (7, E'\\', E'\\\\', E'\\r\\n\\t', '\', '\'),
  (8, E'\b\f\n\r\t\v\x01\x1f\x7f', 'a', '''', '''', ''''), (9, '☃ 🍺 Ω ﷽ ' || chr(1114109), '☃', 'Ünï', 'ü', 'z'), (10, E'\n\n\\.\n\n', 'b', E'\n\\.\n', 'z', 'z'),
  (11, E'--\n/* */ $$ ; COPY x FROM stdin;\n\\.\n', 'c', '\q', '\q', 'q'), (12, repeat('e' || chr(769), 100), 'é', 'é', 'é', 'e'),
  (13, E'line one\rline two\r', 'd', E'\r', E'\r', E'\r'), (14, chr(65279) || 'byte order mark', 'd', chr(8232), 'y', 'y');
CREATE TABLE public.binaries (id int, b bytea);
INSERT INTO public.binaries VALUES (1, ''), (2, NULL), (3, '\x00'), (4, '\x5c2e0a'), (5, (SELECT string_agg(set_byte('\x00', 0, i), NULL ORDER BY i) FROM generate_series(0, 255) i)),
  (6, (SELECT string_agg(sha256(i::text::bytea), NULL ORDER BY i) FROM generate_series(1, 10000) i));
CREATE TABLE public.arrays (id int, i int[], t text[], m int[][], b bytea[], j jsonb[], low int[]);
INSERT INTO public.arrays VALUES
  (1, '{}', '{}', '{{1,2},{3,4}}', '{"\\x00",NULL}', ARRAY['{"a":"b\"c"}'::jsonb, 'null'], '[0:2]={1,2,3}'),
  (2, '{NULL,1}', '{NULL,"NULL","",", ","{","\\","\"","a b"}', '[-1:0][5:6]={{1,2},{3,4}}', '{}', NULL, NULL), (3, NULL, NULL, NULL, NULL, '{}', '{}');
CREATE TABLE public.others (id int, j json, jb jsonb, x xml, u uuid, i inet, c cidr, m macaddr, m8 macaddr8, bt bit(5), vb bit varying, mo money,
  p point, l line, ls lseg, bx box, pa path, po polygon, ci circle, tv tsvector, tq tsquery, rc regclass, rp regprocedure, rt regtype, ro regrole, lsn pg_lsn, b bool, ty oid);
INSERT INTO public.others (id, j, jb, x, u, i, c, m, m8, bt, vb, mo, p, l, ls, bx, pa, po, ci, tv, tq, rc, rp, rt, ro, lsn, b, ty) VALUES
  (1, E'{"a" : 1,\n "a":2, "\\u00e9": "\\\\." }', '{"a": 1.10, "n": 1e400, "t": "\u00e9\n\\.", "": null}', '<a b="c">&amp;<![CDATA[\.]]></a>', '00000000-0000-0000-0000-000000000000',
   '2001:db8::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'', '-12.34', '(1.5,-0)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))',
   '<(1,1),0.1>', 'a:1A b:2 ''it''''s'':3', 'a & !(b | c:*)', 'sales.typed', 'public.overloaded(text)', 'sales.mood[]', 'ks_owner', 'FFFFFFFF/0', true, 4294967295),
  (2, 'null', 'null', '', NULL, '::', '::/0', NULL, NULL, NULL, B'1', NULL, '(NaN,Infinity)', NULL, NULL, NULL, '((0,0))', NULL, NULL, '', '', NULL, NULL, NULL, NULL, '0/0', false, 0),
  (3, '"\u0000 kept as text"', '[]', 'text only', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '"Sales Dept."."Order ""Lines"""', NULL, NULL, NULL, NULL, NULL, NULL);
-- One row of more than twenty million bytes, and one whose every byte is escaped.
CREATE TABLE public.giant_row (id int, body text, escapes text);
INSERT INTO public.giant_row VALUES (1, repeat('twenty million bytes ', 1000000), NULL), (2, NULL, repeat(E'\n\\', 250000)), (3, 'small', 'small');
-- Rows of mixed width, updated: their physical order is not the order of insertion.
CREATE TABLE public.mixed_width (id int PRIMARY KEY, body text) WITH (fillfactor = 50);
INSERT INTO public.mixed_width SELECT i, repeat('x', (i * 7919) % 1500) FROM generate_series(1, 2000) i;
UPDATE public.mixed_width SET body = body || 'longer' WHERE id % 3 = 0;
DELETE FROM public.mixed_width WHERE id % 11 = 0;
