-- Roles belong to the whole cluster: all are prefixed and may be there already.
DO $$
DECLARE role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['ks_owner', 'ks_reader', 'ks_writer', 'ks_grantor', 'ks_limited', 'ks Odd "Rôle'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I', role);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
END $$;
ALTER ROLE ks_limited LOGIN PASSWORD 'ks p@ss:w/rd%' NOSUPERUSER;
GRANT ks_reader TO ks_writer;
