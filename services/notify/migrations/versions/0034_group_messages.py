"""Messages to teams and to those who are on call: what each of their people gets, and who works on one that is due.

Revision ID: 0034
Revises: 0033
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE messages ADD COLUMN parent uuid, ADD COLUMN lease_until timestamptz, ADD COLUMN tries int NOT NULL DEFAULT 0;
CREATE INDEX messages_children ON messages (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX messages_latest_shown ON messages (org_id, send_time DESC, id DESC) WHERE parent IS NULL;
"""
BACK = """
DROP INDEX messages_children, messages_latest_shown;
ALTER TABLE messages DROP COLUMN parent, DROP COLUMN lease_until, DROP COLUMN tries;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, BACK)
