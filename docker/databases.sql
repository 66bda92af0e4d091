-- A database for each service, owned by a role that can log in and nothing else: row-level security binds it, and it
-- cannot reach the others' databases. Beside it a login for calls, which owns nothing; `migrate` gives it its rights.
-- Runs at every `docker compose up` and changes only what differs, so a password changed in .env, or a service added
-- later, needs no manual step (PostgreSQL's own init scripts run once, ever).
\set ON_ERROR_STOP on
\set QUIET on
\getenv ingest INGEST_DB_PASSWORD
\getenv escalation ESCALATION_DB_PASSWORD
\getenv notify NOTIFY_DB_PASSWORD

SET log_min_error_statement = panic; -- a statement that fails must not leave its password in the server's log
SET client_min_messages = warning;

CREATE TEMPORARY TABLE wanted (name text, password text);
INSERT INTO wanted
VALUES ('tocsin_ingest', :'ingest'), ('tocsin_escalation', :'escalation'), ('tocsin_notify', :'notify');
CREATE TEMPORARY TABLE logins AS
SELECT name || suffix AS name, password FROM wanted, unnest(ARRAY['', '_tenant']) AS suffix;

SELECT format('CREATE ROLE %I', name) FROM logins WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format(
    'ALTER ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD %L', name, password
) FROM logins \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, name)
FROM wanted WHERE name NOT IN (SELECT datname FROM pg_database) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name) FROM wanted \gexec
\echo the databases tocsin_ingest, tocsin_escalation and tocsin_notify are there
