"""Which attempt a message at Slack is: replies in its thread become notes.

Revision ID: 0040
Revises: 0039
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

INDEX = "CREATE INDEX attempts_by_slack_message ON attempts (provider_id) WHERE provider_id LIKE '% %'"


def upgrade() -> None:
    run_script(op, INDEX)


def downgrade() -> None:
    run_script(op, "DROP INDEX attempts_by_slack_message")
