"""Messages that are to show what became of their incident after they were sent."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Fences of before are closed: what they stopped was sent by channels that nothing follows.
SCRIPT = """
ALTER TABLE cancel_fences ADD COLUMN followed boolean NOT NULL DEFAULT true;
CREATE INDEX cancel_fences_to_follow ON cancel_fences (update_time) WHERE NOT followed;
ALTER TABLE notifications ADD COLUMN followed int NOT NULL DEFAULT 0,
  ADD COLUMN follow_due timestamptz,
  ADD COLUMN follow_tries int NOT NULL DEFAULT 0;
"""
UNDO = """
ALTER TABLE cancel_fences DROP COLUMN followed;
ALTER TABLE notifications DROP COLUMN followed, DROP COLUMN follow_due, DROP COLUMN follow_tries;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, UNDO)
