"""Dead letters are found by their incident: the fence of an incident stays for as long as one of its pages may be redriven.

Revision ID: 0021
Revises: 0020
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

SCRIPT = """
CREATE INDEX dead_letters_of_incident ON dead_letters (org_id, incident) WHERE redrive_time IS NULL AND incident IS NOT NULL;
"""


def upgrade() -> None:
    """An index over the letters that wait, which are few."""
    run_script(op, SCRIPT)


def downgrade() -> None:
    """Without it."""
    run_script(op, "DROP INDEX dead_letters_of_incident;")
