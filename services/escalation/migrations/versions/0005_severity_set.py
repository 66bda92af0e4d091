"""Whether a person has set the severity of an incident, so that repeats of its alerts do not raise it again.

Revision ID: 0005
Revises: 0004
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A default that is a constant: no row is rewritten, and code before this migration inserts without it."""
    run_script(op, "ALTER TABLE escalations ADD COLUMN severity_set boolean NOT NULL DEFAULT false;")


def downgrade() -> None:
    """Severities that people set stay, and the next repeat of an alert may raise them."""
    run_script(op, "ALTER TABLE escalations DROP COLUMN severity_set;")
