"""A word of its own for a timer of what comes after the last level, which waits as a deferred level does.

Revision ID: 0033
Revises: 0032
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind
             CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold', 'deferred', 'deferred_end'));""",
    )


def downgrade() -> None:
    run_script(
        op,
        """UPDATE timers SET kind = 'deferred', level_end = due_time WHERE kind = 'deferred_end';
           ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind
             CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold', 'deferred'));""",
    )
