"""The outbox: the outcomes of pages are written in the transaction that decides them."""

from alembic import op
from tocsin_kit.db.migrations import outbox_table, outbox_turns, run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    outbox_table(op)
    outbox_turns(op)


def downgrade() -> None:
    run_script(op, "DROP TABLE outbox")
