"""After how long without a trigger the incidents of an integration are resolved.

Revision ID: 0007
Revises: 0006
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column; null: never."""
    run_script(op, "ALTER TABLE integrations ADD COLUMN auto_resolve_after interval")


def downgrade() -> None:
    """Without it."""
    run_script(op, "ALTER TABLE integrations DROP COLUMN auto_resolve_after")
