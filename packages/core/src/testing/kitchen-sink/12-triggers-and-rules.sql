-- Triggers in each state, rules, row security, event triggers. None may fire while a backup is loaded.
CREATE TABLE public.trigger_log (n int);
CREATE FUNCTION public.log_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.trigger_log VALUES (1); RETURN NEW; END $$;
CREATE TABLE public.triggered (id int PRIMARY KEY, body text);
CREATE TRIGGER "Odd ""trigger""" BEFORE INSERT OR UPDATE OF body ON public.triggered FOR EACH ROW WHEN (new.id > 0) EXECUTE FUNCTION public.log_trigger('arg', E'\\x', 'it''s');
CREATE TRIGGER disabled_one AFTER DELETE ON public.triggered FOR EACH STATEMENT EXECUTE FUNCTION public.log_trigger();
CREATE TRIGGER always_one AFTER INSERT ON public.triggered REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION public.log_trigger();
CREATE TRIGGER replica_one AFTER INSERT ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.log_trigger();
CREATE CONSTRAINT TRIGGER constraint_one AFTER INSERT ON public.triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.log_trigger();
ALTER TABLE public.triggered DISABLE TRIGGER disabled_one, ENABLE ALWAYS TRIGGER always_one, ENABLE REPLICA TRIGGER replica_one;
COMMENT ON TRIGGER disabled_one ON public.triggered IS 'sleeps';
INSERT INTO public.triggered SELECT i, 'row ' || i FROM generate_series(1, 20) i;
CREATE TRIGGER on_view INSTEAD OF INSERT ON public.simple_view FOR EACH ROW EXECUTE FUNCTION public.log_trigger();
CREATE TRIGGER on_partitioned AFTER INSERT ON public.by_range FOR EACH ROW EXECUTE FUNCTION public.log_trigger();
ALTER TABLE public.by_range_2025 DISABLE TRIGGER on_partitioned;

CREATE TABLE public.ruled (id int);
INSERT INTO public.ruled VALUES (1), (2);
CREATE RULE no_delete AS ON DELETE TO public.ruled DO INSTEAD NOTHING;
CREATE RULE also_log AS ON INSERT TO public.ruled WHERE new.id > 10 DO ALSO (INSERT INTO public.trigger_log VALUES (new.id); DELETE FROM public.trigger_log WHERE n < 0);
CREATE RULE also_notify AS ON INSERT TO public.ruled DO ALSO NOTIFY "ruled rows", 'it''s';
CREATE RULE sleeping AS ON UPDATE TO public.ruled DO INSTEAD NOTHING;
ALTER TABLE public.ruled DISABLE RULE sleeping;
COMMENT ON RULE no_delete ON public.ruled IS 'keeps rows';

CREATE TABLE public.secured (id int PRIMARY KEY, owner_name name DEFAULT current_user, body text);
INSERT INTO public.secured SELECT i, CASE WHEN i % 2 = 0 THEN 'ks_reader' ELSE 'ks_limited' END, 'secret ' || i FROM generate_series(1, 50) i;
ALTER TABLE public.secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON public.secured FOR SELECT TO ks_reader, ks_limited USING (owner_name = current_user);
CREATE POLICY "restrictive one" ON public.secured AS RESTRICTIVE FOR ALL TO PUBLIC USING (id > 0) WITH CHECK (body <> '\.');
COMMENT ON POLICY own_rows ON public.secured IS 'own rows only';
ALTER TABLE public.secured OWNER TO ks_owner;
GRANT SELECT ON public.secured TO ks_limited, ks_reader;

CREATE TABLE public.ddl_log (tag text);
CREATE FUNCTION public.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ddl_log VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER ks_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'REFRESH MATERIALIZED VIEW') EXECUTE FUNCTION public.log_ddl();
CREATE EVENT TRIGGER ks_sleeping ON sql_drop EXECUTE FUNCTION public.log_ddl();
ALTER EVENT TRIGGER ks_sleeping DISABLE;
COMMENT ON EVENT TRIGGER ks_ddl IS 'logs';
