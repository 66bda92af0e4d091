"""The audit log.

Revision ID: 0014
Revises: 0013
"""

from alembic import op
from tocsin_kit.db.migrations import audit_entries_table, drop_audit_entries

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    audit_entries_table(op)


def downgrade() -> None:
    drop_audit_entries(op)
