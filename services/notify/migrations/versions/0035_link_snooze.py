"""Links of pages can snooze.

Revision ID: 0035
Revises: 0034
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE link_uses DROP CONSTRAINT link_uses_action, ADD CONSTRAINT link_uses_action
  CHECK (action IN ('acknowledge', 'snooze', 'escalate', 'resolve', 'note'));
"""
BACK = """
DELETE FROM link_uses WHERE action = 'snooze';
ALTER TABLE link_uses DROP CONSTRAINT link_uses_action, ADD CONSTRAINT link_uses_action
  CHECK (action IN ('acknowledge', 'escalate', 'resolve', 'note'));
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, BACK)
