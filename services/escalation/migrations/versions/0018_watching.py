"""The order in which entries of the timeline became visible, for streams of changes.

Ids of entries are drawn before their transactions commit, so a later commit may bring a smaller one. A reader that knows
the transaction of each entry reads in the order of transactions and stops before the oldest that is still under way.

Revision ID: 0018
Revises: 0017
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Two steps: entries that are there stay without a transaction, so neither the table nor a large index is written.
    run_script(
        op,
        """ALTER TABLE timeline ADD COLUMN transaction bigint;
           ALTER TABLE timeline ALTER COLUMN transaction SET DEFAULT (pg_current_xact_id()::text)::bigint;
           CREATE INDEX timeline_changes ON timeline (org_id, transaction, id) WHERE transaction IS NOT NULL;""",
    )


def downgrade() -> None:
    run_script(op, "ALTER TABLE timeline DROP COLUMN transaction")
