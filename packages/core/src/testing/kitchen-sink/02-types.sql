-- Enums, domains, composites, ranges, base types, collations, and tables that use them.
CREATE TYPE sales.mood AS ENUM ('sad', 'ok', 'it''s fine', 'happy', '', 'größer', 'with, comma');
ALTER TYPE sales.mood ADD VALUE 'very sad' BEFORE 'sad';
CREATE TYPE public.no_values AS ENUM ();
CREATE DOMAIN sales.positive AS numeric(10,2) DEFAULT 1 CONSTRAINT must_be_positive CHECK (VALUE > 0);
CREATE DOMAIN sales.short_list AS text[] NOT NULL CHECK (cardinality(VALUE) <= 3);
CREATE DOMAIN sales.domain_of_domain AS sales.positive CHECK (VALUE < 1000);
ALTER DOMAIN sales.positive ADD CONSTRAINT not_validated CHECK (VALUE <> 13) NOT VALID;
CREATE TYPE sales.address AS (street text, "house no." int, mood sales.mood);
CREATE TYPE sales.person AS (name text, home sales.address, tags text[]);
ALTER TYPE sales.person ADD ATTRIBUTE born date;
ALTER TYPE sales.person DROP ATTRIBUTE tags;
CREATE TYPE sales.float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION public.german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION public.copy_of_c FROM "C";

CREATE TYPE public.base_type;
CREATE FUNCTION public.base_in(cstring) RETURNS public.base_type LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION public.base_out(public.base_type) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE public.base_type (INPUT = public.base_in, OUTPUT = public.base_out, LIKE = int4, CATEGORY = 'N');
CREATE TYPE public.shell_only;

CREATE TABLE sales.typed (
  id int PRIMARY KEY,
  mood sales.mood,
  price sales.positive,
  list sales.short_list DEFAULT '{}',
  small sales.domain_of_domain,
  who sales.person,
  people sales.person[],
  span sales.float_range,
  days daterange,
  hours tsrange[],
  name text COLLATE public.german,
  login text COLLATE public.any_case UNIQUE,
  custom public.base_type,
  moods sales.mood[]
);
INSERT INTO sales.typed (id, mood, price, list, small, who, people, span, days, hours, name, login, custom, moods) VALUES
  (1, 'happy', 1.5, '{a,"b,c",NULL}', 2, ROW('Anna', ROW('Main "Street"', 5, 'ok'), '1980-02-29'), ARRAY[ROW('B', NULL, NULL)::sales.person, NULL],
   '[1.5,2.5)', '[2024-01-01,infinity)', ARRAY['[2024-01-01,2024-01-02)'::tsrange, 'empty'], 'Ärger', 'Anna', '42', '{happy,"",NULL,"with, comma"}'),
  (2, '', NULL, '{}', NULL, ROW(NULL, NULL, NULL), '{}', 'empty', '(,)', NULL, 'Arger', 'bob', NULL, NULL),
  (3, NULL, 0.01, '{""}', 999.99, NULL, NULL, '(,1]', NULL, '{}', '', '', '-7', '{}');
CREATE INDEX ON sales.typed (name COLLATE public.german);
CREATE INDEX ON sales.typed USING gist (span);
CREATE TABLE public.of_type OF sales.address (street PRIMARY KEY, "house no." DEFAULT 1);
INSERT INTO public.of_type VALUES ('Elm', 1, 'sad');

SELECT :SERVER_VERSION_NUM >= 140000 AS since_14 \gset
\if :since_14
CREATE TABLE sales.multirange (id int, spans sales.float_multirange, days datemultirange);
INSERT INTO sales.multirange VALUES (1, '{[1,2),[3,4)}', '{[2024-01-01,2024-02-01),[2024-03-01,)}'), (2, '{}', NULL);
\endif
