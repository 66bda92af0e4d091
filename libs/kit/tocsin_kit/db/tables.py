"""Helpers for a service's `store/tables/`, and the tables that the kit itself uses.

`store/tables/` shows the schema as all migrations together leave it; a test compares it with a migrated database.
Migrations stay hand-written: Alembic's autogenerate sees neither CHECK constraints nor row security. Columns are NOT
NULL unless they say otherwise. Row security is not written down: each table with a column `org_id` must have it.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

TIME: Final = DateTime(timezone=True)
NOW: Final = "app_now()"


def column(
    name: str,
    type_: TypeEngine[Any] | type[TypeEngine[Any]],
    *more: Identity,
    default: str | None = None,
    nullable: bool = False,
    comment: str | None = None,
) -> Column[Any]:
    """A column. `default` is an SQL expression, so a text stands in its own quotes."""
    server_default = None if default is None else text(default)
    return Column(name, type_, *more, server_default=server_default, nullable=nullable, comment=comment)


def primary_key(*columns: str, name: str | None = None) -> SchemaItem:
    """Without a name PostgreSQL gives `<table>_pkey`."""
    return PrimaryKeyConstraint(*columns, name=name)


def foreign_key(
    columns: Sequence[str], target: str, key: Sequence[str], *, name: str | None = None, **options: Any
) -> SchemaItem:
    """`columns` refer to the columns `key` of the table `target`. `options`: those of SQLAlchemy's constraint."""
    return ForeignKeyConstraint(columns, [f"{target}.{each}" for each in key], name=name, **options)


def check(condition: str, *, name: str | None = None) -> SchemaItem:
    """What holds for each row. Without a name PostgreSQL gives `<table>_<column>_check`."""
    return CheckConstraint(text(condition), name=name)


def index(
    name: str, *columns: str, unique: bool = False, where: str | None = None, using: str | None = None
) -> SchemaItem:
    """An index. A column may carry its order: `create_time DESC`."""
    options: dict[str, Any] = {} if using is None else {"postgresql_using": using}
    if where is not None:
        options["postgresql_where"] = text(where)
    return Index(name, *(text(each) if " " in each else each for each in columns), unique=unique, **options)


def also(of: MetaData | Table, *statements: str, after: Table | None = None) -> None:
    """SQL that is run with the creation of a table: its partitions, and what refers to one. `after`: made only then."""
    when = "before_create" if isinstance(of, MetaData) else "after_create"
    for each in statements:
        event.listen(of, when, DDL(each))  # type: ignore[no-untyped-call]
    if after is not None and isinstance(of, Table):
        of.add_is_dependent_on(after)


def outbox(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.db.outbox` and the relay."""
    on_its_way = "dead_time IS NULL"
    return Table(
        "outbox",
        metadata,
        column("id", BigInteger, Identity(always=True)),
        column("org_id", Text),
        column("ordering_key", Text),
        column("kind", Text),
        column("payload", LargeBinary),
        column("create_time", TIME, default=NOW),
        column("due_time", TIME, default=NOW),
        column("attempts", Integer, default="0"),
        column("lease_until", TIME, nullable=True),
        column("last_error", Text, nullable=True),
        column("dead_time", TIME, nullable=True),
        column("refusals", Integer, default="0", comment="Refusals of this row while it travelled alone."),
        column("retries", Integer, default="0", comment="Times the receiver asked for this row later."),
        column(
            "blocked",
            Boolean,
            default="false",
            comment="The receiver lacks an earlier message of the ordering key.",
        ),
        column(
            "substituted",
            Boolean,
            default="false",
            comment="The payload is a substitute; the original is a dead row.",
        ),
        column(
            "substituted_by",
            BigInteger,
            nullable=True,
            comment="The row that travels in place of this dead one.",
        ),
        primary_key("id"),
        check("dead_time IS NULL OR lease_until IS NULL", name="outbox_dead_is_quiet"),
        index("outbox_due", "due_time", "id", where=on_its_way),
        index("outbox_order", "ordering_key", "id", where=f"{on_its_way} AND ordering_key <> ''"),
        index("outbox_dead", "id", where="dead_time IS NOT NULL"),
        index("outbox_turns", "kind", "org_id", "due_time", "id", where=f"{on_its_way} AND refusals = 0"),
        index("outbox_refused", "kind", "org_id", "due_time", "id", where=f"{on_its_way} AND refusals > 0"),
        index("outbox_blocked", "id", where=f"{on_its_way} AND blocked"),
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )


def requests(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.db.requests`."""
    return Table(
        "requests",
        metadata,
        column("org_id", Text),
        column("method", Text),
        column("request_id", Text),
        column("body_hash", LargeBinary),
        column("response", LargeBinary, nullable=True),
        column("create_time", TIME, default=NOW),
        primary_key("org_id", "method", "request_id"),
        index("requests_create_time", "create_time"),
    )


def tenant_limits(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.budgets.record`."""
    return Table(
        "tenant_limits",
        metadata,
        column("org_id", Text),
        column("name", Text),
        column("allowed", BigInteger),
        column("subject", Text),
        column("update_time", TIME, default=NOW),
        primary_key("org_id", "name"),
        check("allowed > 0"),
        comment="What operators allow a tenant in place of the default; subject: who did it",
    )


def audit_entries(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.db.audit`. Its triggers are in the migration alone."""
    return Table(
        "audit_entries",
        metadata,
        column("org_id", Text),
        column("id", BigInteger, Identity(always=True)),
        column("create_time", TIME, default=NOW),
        column("actor", Text),
        column("method", Text),
        column("resources", ARRAY(Text)),
        column("reason", Text),
        column("before", JSONB, nullable=True),
        column("after", JSONB, nullable=True),
        column("credential", Text),
        column("trace_id", Text),
        primary_key("org_id", "id"),
        index("audit_entries_by_actor", "org_id", "actor", "id"),
        index("audit_entries_by_time", "create_time"),
        comment="Who changed what; rows are only added",
    )


def audit_resources(metadata: MetaData) -> Table:
    """The other table of `tocsin_kit.db.audit`. Its triggers are in the migration alone."""
    return Table(
        "audit_resources",
        metadata,
        column("org_id", Text),
        column("resource", Text),
        column("entry_id", BigInteger),
        column("create_time", TIME),
        primary_key("org_id", "resource", "entry_id"),
        index("audit_resources_by_entry", "entry_id"),
        comment="Which audit entries are about a resource; a trigger of audit_entries keeps them",
    )


def queue_pauses(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.db.queues`."""
    return Table(
        "queue_pauses",
        metadata,
        column("queue", Text),
        column("pause_time", TIME, default=NOW),
        primary_key("queue"),
    )


def queue_options(metadata: MetaData) -> Table:
    """The table of `tocsin_kit.tasks.options`."""
    return Table(
        "queue_options",
        metadata,
        column("queue", Text),
        column("options", LargeBinary, default="''"),
        column("version", BigInteger, default="0"),
        column("update_time", TIME, default=NOW),
        primary_key("queue"),
    )
