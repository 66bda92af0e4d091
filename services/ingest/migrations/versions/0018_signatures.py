"""The secrets with which senders sign what they post.

Revision ID: 0018
Revises: 0017
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that readers of the old code do not notice."""
    run_script(
        op,
        """ALTER TABLE integrations ADD COLUMN signature_secret bytea;
           COMMENT ON COLUMN integrations.signature_secret IS
             'What senders sign with, closed by INGEST_SECRET_KEY; null: no signature is needed';
           COMMENT ON COLUMN integrations.routing_rules IS
             'tocsin.ingest.v1.Integration with nothing but its routing_rules, mapping, mail and signature';""",
    )


def downgrade() -> None:
    """Without it."""
    run_script(
        op,
        """ALTER TABLE integrations DROP COLUMN signature_secret;
           COMMENT ON COLUMN integrations.routing_rules IS
             'tocsin.ingest.v1.Integration with nothing but its routing_rules, mapping and mail';""",
    )
