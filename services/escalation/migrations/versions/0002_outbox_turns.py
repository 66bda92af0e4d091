"""The relay is fair by tenant and sets refused rows aside.

Revision ID: 0002
Revises: 0001
"""

from alembic import op
from tocsin_kit.db.migrations import drop_outbox_turns, outbox_turns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns and indexes of the outbox."""
    outbox_turns(op)


def downgrade() -> None:
    """Without them."""
    drop_outbox_turns(op)
