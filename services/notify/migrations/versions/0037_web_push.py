"""Browsers tell that a push arrived, so they are waited for like text messages and calls.

Revision ID: 0037
Revises: 0036
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

INDEX = """
DROP INDEX notifications_receipts_due;
CREATE INDEX notifications_receipts_due ON notifications (send_time)
  WHERE state = 'sent' AND channel IN ({channels}) AND NOT receipt_settled;
"""


def upgrade() -> None:
    run_script(op, INDEX.format(channels="'sms', 'voice', 'web_push'"))


def downgrade() -> None:
    run_script(op, INDEX.format(channels="'sms', 'voice'"))
