"""Contact methods that were deleted go some time after the last notification that names them.

Revision ID: 0023
Revises: 0022
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# The reference would be looked for in all notifications at each deletion, by no index; and each page locked its methods by it.
SCRIPT = """
ALTER TABLE notifications DROP CONSTRAINT notifications_method_fkey;
CREATE INDEX contact_methods_deleted ON contact_methods (delete_time) WHERE delete_time IS NOT NULL;
"""
UNDO = """
DROP INDEX contact_methods_deleted;
ALTER TABLE notifications ADD CONSTRAINT notifications_method_fkey FOREIGN KEY (contact_method) REFERENCES contact_methods (id)
  NOT VALID;
"""


def upgrade() -> None:
    """Reads no table of any size: contact methods are few."""
    run_script(op, SCRIPT)


def downgrade() -> None:
    """Not validated: notifications of before may name methods that are gone."""
    run_script(op, UNDO)
