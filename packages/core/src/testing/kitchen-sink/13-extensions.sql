-- Extensions with their configuration tables, and what stands on them: types, indexes, foreign servers and tables.
CREATE SCHEMA extensions;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE EXTENSION citext SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
CREATE EXTENSION btree_gist SCHEMA extensions;
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION cellar_settings SCHEMA extensions;
COMMENT ON EXTENSION hstore IS 'changed comment';
-- Rows of one's own in the extension's tables: the first is dumped whole, of the second only rows that are not the extension's.
INSERT INTO extensions.cellar_setting_names VALUES ('own name'), ('another');
INSERT INTO extensions.cellar_setting_values (name, value, builtin) VALUES ('own', E'value\twith tab', false), ('own too', NULL, false);
SELECT nextval('extensions.cellar_setting_sequence'), nextval('extensions.cellar_setting_sequence');
REVOKE EXECUTE ON FUNCTION extensions.show_trgm(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION extensions.show_trgm(text) TO ks_reader;
GRANT SELECT ON extensions.cellar_setting_names TO ks_reader;

CREATE TABLE public.uses_extensions (id int PRIMARY KEY, h extensions.hstore, c extensions.citext UNIQUE, t text, room int, during tsrange,
  EXCLUDE USING gist (room extensions.gist_int4_ops WITH =, during WITH &&));
INSERT INTO public.uses_extensions SELECT i, extensions.hstore('key ' || i, CASE WHEN i % 2 = 0 THEN E'"quo\\ted"' END), 'Case ' || i, 'trigram text ' || i, i, '[2024-01-01,2024-01-02)' FROM generate_series(1, 30) i;
CREATE INDEX ON public.uses_extensions USING gin (t extensions.gin_trgm_ops);

CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE public.foreign_file (line text) SERVER files OPTIONS (filename '/nonexistent/it''s', format 'text', delimiter E'\x01');
CREATE SERVER "Odd ""server""" TYPE 't' VERSION '1.0' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'no such');
CREATE USER MAPPING FOR ks_reader SERVER "Odd ""server""" OPTIONS (user 'remote', password 'it''s a pa\ss');
CREATE USER MAPPING FOR PUBLIC SERVER files;
CREATE FOREIGN TABLE sales.foreign_rows (id int OPTIONS (column_name 'ID') NOT NULL, body text COLLATE "C", CHECK (id > 0)) SERVER "Odd ""server""" OPTIONS (schema_name 's', table_name 't');
CREATE FOREIGN DATA WRAPPER ks_wrapper OPTIONS (debug 'true');
ALTER SERVER files OWNER TO ks_owner;
COMMENT ON SERVER files IS 'files';
COMMENT ON FOREIGN TABLE public.foreign_file IS 'foreign';
CREATE TABLE public.with_foreign_part (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE public.with_foreign_part_here PARTITION OF public.with_foreign_part FOR VALUES FROM (0) TO (100);
INSERT INTO public.with_foreign_part VALUES (1, 'here');
CREATE FOREIGN TABLE public.with_foreign_part_there PARTITION OF public.with_foreign_part FOR VALUES FROM (100) TO (200) SERVER "Odd ""server""";
