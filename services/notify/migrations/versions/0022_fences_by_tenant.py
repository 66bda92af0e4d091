"""Open fences are found tenant by tenant: what one tenant has to tell of its messages keeps no other waiting.

Revision ID: 0022
Revises: 0021
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SCRIPT = """
CREATE INDEX cancel_fences_open_by_org ON cancel_fences (org_id, update_time) WHERE NOT followed;
"""


def upgrade() -> None:
    """An index over the fences that are open, which are few."""
    run_script(op, SCRIPT)


def downgrade() -> None:
    """Without it."""
    run_script(op, "DROP INDEX cancel_fences_open_by_org;")
