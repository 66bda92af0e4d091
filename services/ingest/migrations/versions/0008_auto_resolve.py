"""After how long without a trigger the incidents of an integration are resolved.

Revision ID: 0008
Revises: 0007
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column; null: never. The index tells at once whether anybody uses it."""
    run_script(
        op,
        """
        ALTER TABLE integrations ADD COLUMN auto_resolve_after interval;
        CREATE INDEX integrations_auto_resolve ON integrations (org_id) WHERE auto_resolve_after IS NOT NULL;
        """,
    )


def downgrade() -> None:
    """Without it."""
    run_script(op, "ALTER TABLE integrations DROP COLUMN auto_resolve_after")
