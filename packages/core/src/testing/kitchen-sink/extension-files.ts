/**
 * A tiny extension with configuration tables, because none of PostgreSQL's own has any: one table that is dumped whole, one of
 * which only the rows that match a condition are, and a sequence.
 */
export const KITCHEN_SINK_EXTENSION_FILES: Readonly<Record<string, string>> = {
  'cellar_settings.control': `comment = 'configuration tables, for tests'
default_version = '1.0'
relocatable = false
`,
  'cellar_settings--1.0.sql': `
CREATE TABLE cellar_setting_names (name text PRIMARY KEY);
CREATE TABLE cellar_setting_values (id serial, name text PRIMARY KEY, value text, builtin boolean NOT NULL);
INSERT INTO cellar_setting_values (name, value, builtin) VALUES ('colour', 'amber', true), ('bitterness', '30', true);
CREATE SEQUENCE cellar_setting_sequence;
CREATE TABLE cellar_setting_private (note text);
INSERT INTO cellar_setting_private VALUES ('belongs to the extension alone');
SELECT pg_catalog.pg_extension_config_dump('cellar_setting_names', '');
SELECT pg_catalog.pg_extension_config_dump('cellar_setting_values', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('cellar_setting_values_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('cellar_setting_sequence', '');
`,
};
