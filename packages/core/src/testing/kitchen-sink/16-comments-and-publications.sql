-- Comments on what has none yet, and publications.
COMMENT ON TABLE public.texts IS E'quote '' backslash \\ newline\nand\n\\.\nend';
COMMENT ON COLUMN public.texts.t IS '☃';
COMMENT ON TABLE public.U&"new\000Aline" IS 'a name of two lines';
COMMENT ON COLUMN public.by_range.note IS 'a partitioned column';
COMMENT ON TYPE sales.mood IS 'an enum';
COMMENT ON TYPE sales.address IS 'a composite';
COMMENT ON COLUMN sales.address.street IS 'an attribute';
COMMENT ON DOMAIN sales.positive IS 'a domain';
COMMENT ON CONSTRAINT must_be_positive ON DOMAIN sales.positive IS 'its constraint';
COMMENT ON COLLATION public.german IS 'a collation';
COMMENT ON CAST (sales.mood AS int) IS 'a cast';
COMMENT ON CONVERSION public.latin IS 'a conversion';
COMMENT ON LANGUAGE ks_language IS 'a language';
COMMENT ON ACCESS METHOD ks_heap IS 'an access method';
COMMENT ON OPERATOR CLASS public.reverse_int_ops USING btree IS 'a class';
COMMENT ON OPERATOR FAMILY public.reverse_ops USING btree IS 'a family';
COMMENT ON TEXT SEARCH DICTIONARY public.german_stem IS 'a dictionary';
COMMENT ON FOREIGN DATA WRAPPER ks_wrapper IS 'a wrapper';

CREATE PUBLICATION ks_all FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION "ks some" FOR TABLE public.parent, ONLY public.other_parent, sales.typed WITH (publish = 'insert');
CREATE PUBLICATION ks_none;
CREATE PUBLICATION ks_root FOR TABLE public.by_hash WITH (publish_via_partition_root = true);
ALTER PUBLICATION ks_none OWNER TO postgres;
COMMENT ON PUBLICATION ks_all IS 'everything';
SELECT :SERVER_VERSION_NUM >= 150000 AS since_15 \gset
\if :since_15
CREATE PUBLICATION ks_filtered FOR TABLE public.identities (always, name) WHERE (always > 10);
CREATE PUBLICATION ks_schema FOR TABLES IN SCHEMA "select", TABLE public.parent;
\endif
