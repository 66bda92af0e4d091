"""A timer of a level that waits until a user comes on call.

Revision ID: 0009
Revises: 0008
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind
             CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold'));""",
    )


def downgrade() -> None:
    run_script(
        op,
        """UPDATE timers SET kind = 'level_timeout' WHERE kind = 'gap_hold';
           ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end'));""",
    )
