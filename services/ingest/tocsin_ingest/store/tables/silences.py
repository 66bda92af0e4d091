"""Silences."""

from typing import Final

from sqlalchemy import UUID, BigInteger, Boolean, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_ingest.store.tables.metadata import METADATA

silences: Final = Table(
    "silences",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("integration_id", Text, comment="Empty: alerts of any. No foreign key: a silence outlives it"),
    column("matchers", LargeBinary, comment="tocsin.ingest.v1.Silence with nothing but its matchers"),
    column("start_time", TIME),
    column("end_time", TIME),
    column("reason", Text),
    column("author", Text),
    column("version", BigInteger, default="1"),
    column("changed", Boolean, default="false", comment="The alerts that it holds back are to be looked at again"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column(
        "time_zone", Text, default="''", comment="Empty: it does not come again, and holds from start_time to end_time"
    ),
    column(
        "days",
        ARRAY(SmallInteger),
        default="'{}'",
        comment="Of the week, on which windows begin, Monday is 1; none: every day",
    ),
    column("window_end", TIME, nullable=True, comment="Of the first window, of one that comes again"),
    primary_key("org_id", "id"),
    check("(time_zone = '') = (window_end IS NULL)", name="silences_recurring"),
    check("reason <> ''"),
    check("version > 0"),
    check("start_time <= end_time", name="silences_order"),
    index("silences_by_end", "org_id", "end_time", "id"),
    index("silences_ended", "end_time"),
    index("silences_changed", "org_id", "id", where="changed"),
)
"""Which alerts page no one, and for how long."""

silence_counts: Final = Table(
    "silence_counts",
    METADATA,
    column("org_id", Text),
    column("silence_id", UUID),
    column("alerts", BigInteger),
    column("messages", BigInteger),
    primary_key("org_id", "silence_id"),
    foreign_key(
        ["org_id", "silence_id"], "silences", ["org_id", "id"], name="silence_counts_silence", ondelete="CASCADE"
    ),
    check("alerts >= 0"),
    check("messages >= 0"),
    postgresql_with={"fillfactor": 50},
)
"""How much each silence has held back. Apart from the silence, since alerts lock that row."""
