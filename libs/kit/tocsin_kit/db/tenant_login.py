"""The login of calls: it sees the rows of one tenant, and no statement can change that by a setting of its session.

Row-level security must be told the tenant, and in PostgreSQL every statement can change every setting that could tell it. So a
transaction of this login also proves that it may use its tenant: `tocsin.proof` is a keyed hash of the tenant and of the
session's process id (another session's proof can be read in pg_stat_activity). The key is in a table on which this login has no
right; a process reads it through the owner's login. A setting without its proof makes no row visible.

`migrate` makes the key, the function, the row rules and the rights; all of it can be repeated.
"""

import hashlib
import secrets
import weakref
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg

from tocsin_kit.db.connections import Connections
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.failures import unavailable
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.db.tx import Tx
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_LOCK_TIMEOUT: Final = "4s"
"""As in migrations: a row rule needs its table exclusively for a moment, and transactions that come meanwhile queue behind it."""
_NO_KEY: Final = "the login of calls is not known to the database: run migrate with …_TENANT_DATABASE_URL"
_LONGEST_NAME: Final = 63
"""PostgreSQL cuts longer ones."""
_KEY: Final = "SELECT key FROM tenancy.keys"
_EXISTS: Final = "SELECT to_regclass('tenancy.keys') IS NOT NULL"
_MADE: Final = """
CREATE SCHEMA IF NOT EXISTS tenancy;
CREATE TABLE IF NOT EXISTS tenancy.keys (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key bytea NOT NULL
);
REVOKE ALL ON tenancy.keys FROM PUBLIC;
CREATE OR REPLACE FUNCTION tenancy.org_id() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT asked.org_id FROM tenancy.keys AS k, (SELECT current_setting('tocsin.org_id', true) AS org_id) AS asked
    WHERE current_setting('tocsin.proof', true) = encode(
        sha256(k.key || sha256(k.key || convert_to(pg_backend_pid() || '/' || asked.org_id, 'UTF8'))), 'hex')
$$;
COMMENT ON FUNCTION tenancy.org_id() IS 'The tenant that this session has proved to be allowed to name; or null.';
"""
_TABLES: Final = """
SELECT c.oid::regclass::text AS name, c.relrowsecurity AS of_tenants,
  EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = $1::name) AS is_held
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
ORDER BY c.relname
"""
_FAULTS: Final = """
SELECT 'is a superuser or has BYPASSRLS' AS fault FROM pg_roles
  WHERE rolname = current_user AND (rolsuper OR rolbypassrls)
UNION ALL
SELECT 'may act as ' || pg_get_userbyid(datdba) || ', who owns the database' FROM pg_database
  WHERE datname = current_database() AND pg_has_role(current_user, datdba, 'MEMBER')
UNION ALL
SELECT 'is not held to one tenant in ' || c.relname FROM pg_class c
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
    AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
    AND NOT EXISTS (SELECT FROM pg_policy p
                    WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd = '*'
                      AND p.polroles = ARRAY[to_regrole(quote_ident(current_user))::oid]
                      AND strpos(pg_get_expr(p.polqual, c.oid), 'tenancy.org_id()') > 0)
"""
_LACKING: Final = """
SELECT kind || ' on ' || c.relname AS name FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
  AND NOT has_table_privilege(c.oid, kind)
ORDER BY 1
"""


def login_of(url: str) -> str:
    """The login that a URL names. Raises ValueError when it names none."""
    user = unquote(urlsplit(url).username or "")
    if not user:
        raise ValueError("the URL names no login")
    return user


async def ensure(connection: Connection, login: str) -> None:
    """Restrict `login` to one tenant, and give it the rights that calls need. `connection`: the owner's.

    Tables that belong to no tenant are read-only for it. Each table is a transaction of its own, and its row rule comes before
    its rights. Raises asyncpg.UndefinedObjectError when there is no such login, asyncpg.LockNotAvailableError after 4 s.
    """
    name = _quoted(login)
    database: str = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    await connection.execute(_MADE)
    await connection.execute(
        "INSERT INTO tenancy.keys (key) VALUES ($1) ON CONFLICT DO NOTHING", secrets.token_bytes(32)
    )
    await connection.execute(f"GRANT USAGE ON SCHEMA tenancy TO {name}")
    await connection.execute(f"GRANT EXECUTE ON FUNCTION tenancy.org_id() TO {name}")
    rule = f"proven_for_{login}"[:_LONGEST_NAME]
    for table in await connection.fetch(_TABLES, rule):
        if table["of_tenants"] and not table["is_held"]:
            await connection.execute(
                # IS NOT DISTINCT FROM cannot use an index: the statement's own conditions choose the index.
                f"CREATE POLICY {_quoted(rule)} ON {table['name']} AS RESTRICTIVE TO {name} "
                "USING (org_id IS NOT DISTINCT FROM (SELECT tenancy.org_id()))"
            )
        rights = "SELECT, INSERT, UPDATE, DELETE" if table["of_tenants"] else "SELECT"
        await connection.execute(f"GRANT {rights} ON {table['name']} TO {name}")
    await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {name}")
    _log.info("tenant_login_ready", login=login)


class TenantLogin:
    """Sessions of the login of calls."""

    def __init__(self, dial: Callable[[], Awaitable[Connection]], *, name: str, size: int, max_age: float) -> None:
        self._key = b""
        self._pids: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()

        async def connect() -> Connection:
            connection = await dial()
            try:
                # Asked, because a pooler in front of PostgreSQL gives its clients numbers of its own.
                self._pids[connection] = await connection.fetchval("SELECT pg_backend_pid()")
            except BaseException:
                connection.terminate()
                raise
            return connection

        self.sessions: Final = Sessions(Connections(connect, name=name, size=size, max_age=max_age))

    @property
    def knows_key(self) -> bool:
        """Whether transactions can begin."""
        return bool(self._key)

    async def learn(self, system: Tx) -> None:
        """Read the key, through a transaction of the owner. Raises DATABASE_UNAVAILABLE when there is none."""
        key = await system.fetchval(_KEY) if await system.fetchval(_EXISTS) else None
        if key is None:
            raise unavailable(_NO_KEY)
        self._key = key

    def begin(self, connection: Connection, org_id: str) -> str:
        """The statements with which a transaction of the tenant begins in this session."""
        claimed = f"{self._pids[connection]}/{org_id}".encode()
        proof = hashlib.sha256(self._key + hashlib.sha256(self._key + claimed).digest()).hexdigest()
        tenant = org_id.replace("'", "''")
        return f"BEGIN;SET LOCAL tocsin.org_id='{tenant}';SET LOCAL tocsin.proof='{proof}'"

    async def check(self, tx: Tx) -> None:
        """Raises DATABASE_UNAVAILABLE when the login could see other tenants, or when its proof is not accepted.

        `tx` is a transaction of a tenant.
        """
        try:
            faults = [row["fault"] for row in await tx.fetch(_FAULTS)]
            proven = not faults and await tx.fetchval("SELECT tenancy.org_id()") == tx.org_id
        except asyncpg.InvalidSchemaNameError as error:
            raise unavailable(_NO_KEY) from error
        if faults:
            raise unavailable(f"the login of calls {', '.join(faults)}: run migrate with …_TENANT_DATABASE_URL")
        if not proven:
            self._key = b""  # the database was made anew, with another key
            raise unavailable("the database does not accept the tenants' proofs; the key is read again")

    async def require_rights(self, tx: Tx) -> None:
        """Raises DATABASE_UNAVAILABLE while a right on a table of tenants is missing. `tx` is a transaction of a tenant.

        Checked at the start only: this process uses no table that a newer version has made since.
        """
        lacking = [row["name"] for row in await tx.fetch(_LACKING)]
        if lacking:
            raise unavailable(f"the login of calls lacks {', '.join(lacking)}: run migrate with …_TENANT_DATABASE_URL")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
