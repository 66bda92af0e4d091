"""What operators allow a tenant in place of the default.

Revision ID: 0006
Revises: 0005
"""

from alembic import op
from tocsin_kit.db.migrations import run_script, tenant_limits_table

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One table."""
    tenant_limits_table(op)


def downgrade() -> None:
    """Without it."""
    run_script(op, "DROP TABLE tenant_limits;")
