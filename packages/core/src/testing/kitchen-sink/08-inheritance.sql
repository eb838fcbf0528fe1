-- Inheritance, also from several parents, with columns in other orders than a fresh child would have.
CREATE TABLE public.parent (id int PRIMARY KEY, name text DEFAULT 'parent', CHECK (id > 0));
CREATE TABLE public.other_parent (name text, extra int DEFAULT 1);
CREATE TABLE public.child (own int, name text DEFAULT 'child') INHERITS (public.parent);
-- From here on the child's columns have an order that creating it anew would not give.
ALTER TABLE public.parent ADD added_later int DEFAULT 42;
CREATE TABLE public.child_of_two (mine date, name text DEFAULT 'of two') INHERITS (public.parent, public.other_parent);
ALTER TABLE public.child ADD after_that text;
CREATE TABLE public.grandchild (name text DEFAULT 'grand') INHERITS (public.child_of_two, public.child);
CREATE TABLE public.joined_later (name text, extra int, more int);
ALTER TABLE public.joined_later INHERIT public.other_parent;
CREATE TABLE public.left_alone () INHERITS (public.parent);
ALTER TABLE public.left_alone NO INHERIT public.parent;
INSERT INTO public.parent SELECT i, 'p' || i, i FROM generate_series(1, 5) i;
INSERT INTO public.child (id, name, own, added_later, after_that) SELECT i, 'c' || i, i, NULL, 'x' FROM generate_series(10, 15) i;
INSERT INTO public.child_of_two (id, name, extra, mine, added_later) SELECT i, 'd' || i, i, date '2024-01-01' + i, i FROM generate_series(20, 25) i;
INSERT INTO public.grandchild (id, name, extra, mine, own) SELECT i, 'g' || i, i, date '2024-01-01' + i, i FROM generate_series(30, 35) i;
INSERT INTO public.other_parent VALUES ('o', 1);
INSERT INTO public.joined_later VALUES ('j', 1, 2);
INSERT INTO public.left_alone VALUES (1, 'l', 2);
