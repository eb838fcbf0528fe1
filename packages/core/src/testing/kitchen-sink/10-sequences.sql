-- Sequences: fresh, used, cycling, counting down, of other types, owned and not.
CREATE SEQUENCE public.fresh;
CREATE SEQUENCE public.used START 5;
SELECT nextval('public.used'), nextval('public.used'), nextval('public.used');
CREATE SEQUENCE public.set_not_called;
SELECT setval('public.set_not_called', 77, false);
CREATE SEQUENCE public.down INCREMENT -3 MINVALUE -1000 MAXVALUE -1 START -10;
SELECT nextval('public.down'), nextval('public.down');
CREATE SEQUENCE public.cycling AS smallint MINVALUE 1 MAXVALUE 3 CYCLE;
SELECT nextval('public.cycling'), nextval('public.cycling'), nextval('public.cycling'), nextval('public.cycling');
CREATE SEQUENCE sales."Odd ""sequence"".1" CACHE 20 MAXVALUE 9223372036854775807 OWNED BY sales.typed.id;
SELECT setval('sales."Odd ""sequence"".1"', 9223372036854775807);
CREATE TABLE public.uses_sequences (a int DEFAULT nextval('public.used'), b bigint DEFAULT nextval('sales."Odd ""sequence"".1"'::regclass));
COMMENT ON SEQUENCE public.down IS 'counts down';
