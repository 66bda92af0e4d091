"""Service accounts, their keys, and revocations."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Identity,
    LargeBinary,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

service_accounts: Final = Table(
    "service_accounts",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("author", Text),
    column("version", BigInteger, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Machines that call Tocsin."""

api_keys: Final = Table(
    "api_keys",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("service_account", Text),
    column("key_hash", LargeBinary, comment="SHA-256 of the key: 32 random bytes need no slow hash"),
    column("prefix", Text),
    column("display_name", Text),
    column("role", Text),
    column("scopes", ARRAY(Text)),
    column("source_ranges", ARRAY(Text)),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME, nullable=True),
    column("last_use_time", TIME, nullable=True),
    column("revoke_time", TIME, nullable=True),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "service_account"],
        "service_accounts",
        ["org_id", "id"],
        name="api_keys_account_fkey",
        ondelete="CASCADE",
    ),
    check("length(key_hash) = 32"),
    index("api_keys_by_hash", "key_hash", unique=True),
    index("api_keys_by_time", "org_id", "create_time", "id"),
    index("api_keys_by_account", "org_id", "service_account"),
    index(
        "api_keys_by_end",
        "least(expire_time, revoke_time)",
        where="expire_time IS NOT NULL OR revoke_time IS NOT NULL",
    ),
)
"""Keys of service accounts, as hashes, and their rights."""

revocations: Final = Table(
    "revocations",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("number", BigInteger, Identity(always=True)),
    column("token_id", Text),
    column("subject", Text),
    column("issued_before", TIME),
    column("of_key", Boolean, comment="Of an API key, which is shown as revoked by itself"),
    column("reason", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME),
    primary_key("org_id", "id"),
    check("(token_id = '') <> (subject = '')", name="revocations_of_one_thing"),
    index("revocations_by_number", "number", unique=True),
    index("revocations_of_org", "org_id", "number"),
    index("revocations_by_end", "expire_time"),
    index("revocations_by_time", "create_time"),
)
"""Revocations of credentials, kept until the credentials have expired."""
