"""What the kit's store tests work on."""

from alembic import op
from tocsin_kit.db.migrations import (
    audit_entries_table,
    create_app_now,
    enable_row_security,
    outbox_table,
    outbox_turns,
    requests_table,
    run_script,
    tenant_limits_table,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_app_now(op)
    outbox_table(op)
    outbox_turns(op)
    requests_table(op)
    tenant_limits_table(op)
    audit_entries_table(op)
    run_script(
        op,
        """
        CREATE TABLE widgets (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org_id text NOT NULL,
                              name text NOT NULL, size integer NOT NULL DEFAULT 0, UNIQUE (org_id, name));
        CREATE INDEX widgets_size ON widgets (size);
        """,
    )
    enable_row_security(op, "widgets")


def downgrade() -> None:
    op.execute("DROP TABLE widgets, outbox, requests, tenant_limits, audit_entries")
