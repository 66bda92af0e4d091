"""The tables of templates. `tables` makes them part of the schema."""

from sqlalchemy import UUID, BigInteger, Boolean, Integer, MetaData, Table, Text, UniqueConstraint
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key


def template_sets(metadata: MetaData) -> Table:
    """The version of each tenant's templates, which every replica looks at again and again. `live`: there are some."""
    return Table(
        "template_sets",
        metadata,
        column("org_id", Text),
        column("version", BigInteger, default="1"),
        column("live", Boolean, default="true"),
        primary_key("org_id"),
    )


def templates(metadata: MetaData) -> Table:
    """Texts of messages. A part that is empty is the default text's; `language` empty: for users of any language."""
    return Table(
        "templates",
        metadata,
        column("id", UUID),
        column("org_id", Text),
        column("type", Text),
        column("language", Text),
        column("subject", Text),
        column("text", Text),
        column("sms", Text),
        column("chat", Text),
        column("voice", Text),
        column("version", Integer, default="1"),
        column("create_time", TIME, default=NOW),
        column("update_time", TIME, default=NOW),
        column("html", Text, default="''"),
        primary_key("id"),
        UniqueConstraint("org_id", "type", "language", name="templates_one_of_each"),
        foreign_key(["org_id"], "template_sets", ["org_id"], name="templates_set_fkey"),
        check("type ~ '^[a-z][a-z0-9_]{0,31}$'", name="templates_type"),
        index("templates_oldest", "org_id", "create_time", "id"),
    )
