"""An index by which the audit log is found by resource.

Revision ID: 0016
Revises: 0015
"""

from alembic import op
from tocsin_kit.db.migrations import audit_resources_table, drop_audit_resources

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    audit_resources_table(op)


def downgrade() -> None:
    drop_audit_resources(op)
