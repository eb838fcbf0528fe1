-- Large objects: empty, small, larger than one read, with holes, with owner, privileges and comment.
SELECT lo_create(600001);
SELECT lo_from_bytea(600002, 'small');
SELECT lo_from_bytea(600003, (SELECT string_agg(sha256(i::text::bytea), NULL ORDER BY i) FROM generate_series(1, 50000) i));
SELECT lo_create(600004);
SELECT lo_put(600004, 3000000, 'after a hole');
SELECT lo_from_bytea(600005, '\x5c2e0a0a0a00ff');
SELECT lo_from_bytea((600100 + i)::oid, ('object ' || i)::bytea) FROM generate_series(1, 40) i;
ALTER LARGE OBJECT 600002 OWNER TO ks_owner;
GRANT SELECT ON LARGE OBJECT 600002 TO ks_reader;
GRANT SELECT, UPDATE ON LARGE OBJECT 600003 TO ks_writer, PUBLIC;
COMMENT ON LARGE OBJECT 600003 IS E'it''s large,\nvery';
CREATE TABLE public.points_to_objects (id int PRIMARY KEY, object oid);
INSERT INTO public.points_to_objects SELECT i, 600100 + i FROM generate_series(1, 40) i;
