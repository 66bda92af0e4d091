"""What the column of routing rules holds: the mapping as well, in the same message.

Revision ID: 0015
Revises: 0014
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A comment alone: the message is opaque to the database."""
    run_script(
        op,
        """COMMENT ON COLUMN integrations.routing_rules IS
             'tocsin.ingest.v1.Integration with nothing but its routing_rules and its mapping';""",
    )


def downgrade() -> None:
    """As it was."""
    run_script(
        op,
        """COMMENT ON COLUMN integrations.routing_rules IS
             'tocsin.ingest.v1.Integration with nothing but its routing_rules';""",
    )
