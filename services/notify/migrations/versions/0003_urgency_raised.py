"""Pages that tell the holder of an incident that it became urgent."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE pages DROP CONSTRAINT pages_type, ADD CONSTRAINT pages_type CHECK
  (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification'{more}));
"""


def upgrade() -> None:
    run_script(op, SCRIPT.format(more=", 'urgency_raised'"))


def downgrade() -> None:
    run_script(op, "DELETE FROM pages WHERE type = 'urgency_raised';" + SCRIPT.format(more=""))
