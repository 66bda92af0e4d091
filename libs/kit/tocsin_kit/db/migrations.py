"""Schema changes: helpers for migrations, and how they are run.

A service's `migrations/versions/0001_….py` are Alembic revisions; their environment is here, the same for all. Revision ids are
numbers of four digits that only grow, so code can tell an old schema from a newer one. A migration must work with the code before
and after it: expand in one release, contract in a later one.
"""

import asyncio
import re
from pathlib import Path
from typing import Any, Final

import asyncpg
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db import tenant_login
from tocsin_kit.db.dialing import Connection, dial
from tocsin_kit.db.partitions import GUARD
from tocsin_kit.db.pool import Database
from tocsin_kit.db.sqlstates import Meaning, decide
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_LOCK_KEY: Final = 0x746F6373696E  # "tocsin": one migration at a time per database
_LOCK_TIMEOUT: Final = "60s"
_STATEMENT_LOCK_TIMEOUT: Final = "4s"
_CONNECT_ATTEMPTS: Final = 20
_REVISION: Final = re.compile(r'^revision\b[^=]*=\s*"(\d{4})"', re.MULTILINE)
ENVIRONMENT: Final = Path(__file__).with_name("migration_env")

_APP_NOW: Final = """
CREATE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';
COMMENT ON FUNCTION app_now() IS 'The only clock. Tests replace it to move time.';
"""

# The settings are read in sub-selects, which PostgreSQL evaluates once per statement and not once per row.
_ROW_SECURITY: Final = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY {table}_tenant ON {table} USING (
    org_id = (SELECT current_setting('tocsin.org_id', true)) OR (SELECT current_setting('tocsin.org_id', true)) = '*'
);
"""

_OUTBOX: Final = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id text NOT NULL,
    ordering_key text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT app_now(),
    due_time timestamptz NOT NULL DEFAULT app_now(),
    attempts integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    last_error text,
    dead_time timestamptz,
    CONSTRAINT outbox_dead_is_quiet CHECK (dead_time IS NULL OR lease_until IS NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_due ON outbox (due_time, id) WHERE dead_time IS NULL;
CREATE INDEX outbox_order ON outbox (ordering_key, id) WHERE dead_time IS NULL AND ordering_key <> '';
CREATE INDEX outbox_dead ON outbox (id) WHERE dead_time IS NOT NULL;
"""

# The claim reads the rows by tenant. Rows that were refused have an index of their own: however many there are, the claim of the
# others never reads them. `lease_until` and `attempts` stay out of every index, so that claiming a row is a heap-only update.
_OUTBOX_TURNS: Final = """
ALTER TABLE outbox
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    ADD COLUMN retries integer NOT NULL DEFAULT 0,
    ADD COLUMN blocked boolean NOT NULL DEFAULT false,
    ADD COLUMN substituted boolean NOT NULL DEFAULT false,
    ADD COLUMN substituted_by bigint;
COMMENT ON COLUMN outbox.refusals IS 'Refusals of this row while it travelled alone.';
COMMENT ON COLUMN outbox.retries IS 'Times the receiver asked for this row later.';
COMMENT ON COLUMN outbox.blocked IS 'The receiver lacks an earlier message of the ordering key.';
COMMENT ON COLUMN outbox.substituted IS 'The payload is a substitute; the original is a dead row.';
COMMENT ON COLUMN outbox.substituted_by IS 'The row that travels in place of this dead one.';
CREATE INDEX outbox_turns ON outbox (kind, org_id, due_time, id) WHERE dead_time IS NULL AND refusals = 0;
CREATE INDEX outbox_refused ON outbox (kind, org_id, due_time, id) WHERE dead_time IS NULL AND refusals > 0;
CREATE INDEX outbox_blocked ON outbox (id) WHERE dead_time IS NULL AND blocked;
"""

_NO_OUTBOX_TURNS: Final = """
DROP INDEX outbox_turns, outbox_refused, outbox_blocked;
ALTER TABLE outbox DROP COLUMN refusals, DROP COLUMN retries, DROP COLUMN blocked, DROP COLUMN substituted,
    DROP COLUMN substituted_by;
"""

_REQUESTS: Final = """
CREATE TABLE requests (
    org_id text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    body_hash bytea NOT NULL,
    response bytea,
    create_time timestamptz NOT NULL DEFAULT app_now(),
    PRIMARY KEY (org_id, method, request_id)
);
CREATE INDEX requests_create_time ON requests (create_time);
"""

_TENANT_LIMITS: Final = """
CREATE TABLE tenant_limits (
    org_id text NOT NULL,
    name text NOT NULL,
    allowed bigint NOT NULL CHECK (allowed > 0),
    subject text NOT NULL,
    update_time timestamptz NOT NULL DEFAULT app_now(),
    PRIMARY KEY (org_id, name)
);
COMMENT ON TABLE tenant_limits IS 'What operators allow a tenant in place of the default; subject: who did it';
"""


_AUDIT: Final = """
CREATE TABLE audit_entries (
    org_id text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    create_time timestamptz NOT NULL DEFAULT app_now(),
    actor text NOT NULL,
    method text NOT NULL,
    resources text[] NOT NULL,
    reason text NOT NULL,
    before jsonb,
    after jsonb,
    credential text NOT NULL,
    trace_id text NOT NULL,
    PRIMARY KEY (org_id, id)
);
COMMENT ON TABLE audit_entries IS 'Who changed what; rows are only added';
CREATE INDEX audit_entries_by_actor ON audit_entries (org_id, actor, id);
CREATE INDEX audit_entries_by_time ON audit_entries (create_time);
CREATE FUNCTION keep_audit_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF current_setting('tocsin.org_id', true) = '*' AND OLD.create_time < app_now() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_entries is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_entries_are_kept BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION keep_audit_entries();
CREATE TRIGGER audit_entries_are_not_emptied BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_entries();
"""

# Row security lets only conditions with leakproof operators use an index: `=` on text is one, `@>` on arrays is not. The trigger
# also serves replicas of the previous release, which do not know this table.
_AUDIT_RESOURCES: Final = """
CREATE TABLE audit_resources (
    org_id text NOT NULL,
    resource text NOT NULL,
    entry_id bigint NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (org_id, resource, entry_id)
);
COMMENT ON TABLE audit_resources IS 'Which audit entries are about a resource; a trigger of audit_entries keeps them';
CREATE INDEX audit_resources_by_entry ON audit_resources (entry_id);
CREATE FUNCTION follow_audit_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM audit_resources WHERE org_id = OLD.org_id AND entry_id = OLD.id;
        RETURN NULL;
    END IF;
    INSERT INTO audit_resources (org_id, resource, entry_id, create_time)
        SELECT DISTINCT NEW.org_id, r.name, NEW.id, NEW.create_time FROM unnest(NEW.resources) AS r(name);
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_resources_follow AFTER INSERT OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION follow_audit_entries();
-- Behind the trigger, which holds up new entries until this is committed: none is left out.
SET LOCAL tocsin.org_id = '*';
INSERT INTO audit_resources (org_id, resource, entry_id, create_time)
    SELECT DISTINCT e.org_id, r.name, e.id, e.create_time FROM audit_entries e, unnest(e.resources) AS r(name);
CREATE TRIGGER audit_resources_are_kept BEFORE UPDATE OR DELETE ON audit_resources
    FOR EACH ROW EXECUTE FUNCTION keep_audit_entries();
CREATE TRIGGER audit_resources_are_not_emptied BEFORE TRUNCATE ON audit_resources
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_entries();
"""

_NO_AUDIT_RESOURCES: Final = """
DROP TRIGGER audit_resources_follow ON audit_entries;
DROP FUNCTION follow_audit_entries();
DROP TABLE audit_resources;
"""


def run_script(op: Any, sql: str) -> None:
    """Run several statements as one script, in the migration's transaction. `op` is Alembic's."""
    connection = op.get_bind().connection.dbapi_connection
    op.execute("SELECT 1")  # the driver opens its transaction with the first statement that it prepares itself
    connection.run_async(lambda raw: raw.execute(sql))


def create_app_now(op: Any) -> None:
    """`app_now()`, the clock of every query. Part of a service's first migration."""
    run_script(op, _APP_NOW)


def enable_row_security(op: Any, table: str) -> None:
    """Only rows of the transaction's tenant are visible, even to the table's owner. The table has `org_id text`."""
    run_script(op, _ROW_SECURITY.format(table=table))


def guard_partition(op: Any, partition: str) -> None:
    """Let only work of all tenants access this partition by its name. Its parent table has row security of its own."""
    run_script(op, GUARD.format(partition=partition))


def outbox_table(op: Any) -> None:
    """The table `tocsin_kit.db.outbox` works on."""
    run_script(op, _OUTBOX)
    enable_row_security(op, "outbox")


def outbox_turns(op: Any) -> None:
    """Columns and indexes for a relay that is fair by tenant and sets refused rows aside. A migration after `outbox_table`."""
    run_script(op, _OUTBOX_TURNS)


def drop_outbox_turns(op: Any) -> None:
    """The way back from `outbox_turns`."""
    run_script(op, _NO_OUTBOX_TURNS)


def requests_table(op: Any) -> None:
    """The table `tocsin_kit.db.requests` works on."""
    run_script(op, _REQUESTS)
    enable_row_security(op, "requests")


def tenant_limits_table(op: Any) -> None:
    """The table `tocsin_kit.budgets.record` works on."""
    run_script(op, _TENANT_LIMITS)
    enable_row_security(op, "tenant_limits")


def audit_entries_table(op: Any) -> None:
    """The table `tocsin_kit.db.audit` works on, with the triggers that keep its rows."""
    run_script(op, _AUDIT)
    enable_row_security(op, "audit_entries")


def drop_audit_entries(op: Any) -> None:
    """The way back from `audit_entries_table`."""
    run_script(op, "DROP TABLE audit_entries; DROP FUNCTION keep_audit_entries();")


def audit_resources_table(op: Any) -> None:
    """The index table for the audit log by resource. A migration after `audit_entries_table`."""
    run_script(op, _AUDIT_RESOURCES)
    enable_row_security(op, "audit_resources")


def drop_audit_resources(op: Any) -> None:
    """The way back from `audit_resources_table`."""
    run_script(op, _NO_AUDIT_RESOURCES)


def folder_of(main: str) -> Path:
    """The migrations of the service with this `__main__`: within its package in a wheel, beside it in a checkout."""
    package = Path(main).parent
    within = package / "migrations"
    return within if within.is_dir() else package.parent / "migrations"


def head_of(migrations: Path) -> str:
    """The newest revision in a service's migrations folder; read as text, because importing Alembic takes longer.

    Raises ValueError when a file has no revision of its own.
    """
    found = [_REVISION.search(file.read_text()) for file in sorted((migrations / "versions").glob("*.py"))]
    revisions = [match.group(1) for match in found if match is not None]
    if not revisions or len(revisions) != len(found) or len(set(revisions)) != len(revisions):
        raise ValueError(f'{migrations}/versions: every file needs its own line revision = "0001"')
    return max(revisions)


async def upgrade(url: str, migrations: Path, *, tenant_url: str = "") -> bool:
    """Migrate the database to the newest revision; False when it has it already.

    Several processes may run this at once: one works, the others wait and find it done. `tenant_url`: its login is restricted to
    one tenant, and gets its rights on the tables of the migrations.
    """
    connection = await _connect(url)
    try:
        head = head_of(migrations)
        if (await _revision(connection) or "") >= head and not tenant_url:
            return False
        await connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        is_old = (await _revision(connection) or "") < head
        if is_old:
            await _run_alembic(url, migrations)
            _log.info("migrated", revision=head)
        if tenant_url:
            await tenant_login.ensure(connection, tenant_login.login_of(tenant_url))
        return is_old
    finally:
        await connection.close()


async def require_revision(database: Database, head: str) -> None:
    """Raises DATABASE_UNAVAILABLE while the schema is older than the code. A newer schema means that a deploy is under way."""
    async with database.system() as tx:
        exists = await tx.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
        revision = await tx.fetchval("SELECT version_num FROM alembic_version") if exists else None
    if revision is None or revision < head:
        raise TocsinError(
            ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE,
            f"the schema is at {revision or 'nothing'}, this code needs {head}: run migrate",
        )


async def bypasses_row_security(database: Database) -> bool:
    """Whether the role is a superuser or has BYPASSRLS: then the second of the two tenant checks does not exist."""
    async with database.system() as tx:
        bypasses: bool = await tx.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    return bypasses


async def _connect(url: str) -> Connection:
    for attempt in range(1, _CONNECT_ATTEMPTS + 1):
        try:
            return await dial(url, name="migrate")
        except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
            decision = decide(error)
            if decision is not None and decision.meaning is not Meaning.AWAY:
                raise
            if attempt == _CONNECT_ATTEMPTS:
                raise
            await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
    raise AssertionError("unreachable")


async def _revision(connection: Connection) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def _run_alembic(url: str, migrations: Path) -> None:
    # Imported here: it takes half a second, which is saved when the schema is current.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(ENVIRONMENT))
    config.set_main_option("version_locations", str(migrations / "versions"))
    config.set_main_option("path_separator", "os")
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        async_creator=lambda: dial(
            url, name="migrate", settings={"lock_timeout": _STATEMENT_LOCK_TIMEOUT, "statement_timeout": "60s"}
        ),
    )

    def run(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()
