-- Foreign keys in a circle, to itself, deferrable, not valid, with actions.
CREATE TABLE public.circle_a (id int PRIMARY KEY, b_id int NOT NULL);
CREATE TABLE public.circle_b (id int PRIMARY KEY, c_id int);
CREATE TABLE sales.circle_c (id int PRIMARY KEY, a_id int);
INSERT INTO public.circle_a SELECT i, 101 - i FROM generate_series(1, 100) i;
INSERT INTO public.circle_b SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO sales.circle_c SELECT i, i FROM generate_series(1, 100) i;
ALTER TABLE public.circle_a ADD FOREIGN KEY (b_id) REFERENCES public.circle_b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.circle_b ADD FOREIGN KEY (c_id) REFERENCES sales.circle_c ON DELETE SET NULL ON UPDATE CASCADE;
ALTER TABLE sales.circle_c ADD CONSTRAINT "back to a" FOREIGN KEY (a_id) REFERENCES public.circle_a MATCH FULL;
CREATE TABLE public.tree (id int PRIMARY KEY, parent_id int REFERENCES public.tree DEFERRABLE);
INSERT INTO public.tree SELECT i, nullif(1001 - i, i) FROM generate_series(1, 1000) i;
CREATE TABLE public.orphans (id int PRIMARY KEY, tree_id int);
INSERT INTO public.orphans VALUES (1, 1), (2, 999999);
ALTER TABLE public.orphans ADD CONSTRAINT unproven_reference FOREIGN KEY (tree_id) REFERENCES public.tree NOT VALID;
