"""Since when alerts could be taken: what an outage or a limit kept out must not count as the sender's silence.

Revision ID: 0012
Revises: 0011
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE intakes (
  org_id text NOT NULL,
  integration_id text NOT NULL,
  since timestamptz NOT NULL,
  renew_time timestamptz NOT NULL,
  PRIMARY KEY (org_id, integration_id)
) WITH (fillfactor = 50);
COMMENT ON COLUMN intakes.org_id IS '*: the row of the whole service, which every replica that serves renews';
COMMENT ON COLUMN intakes.integration_id IS 'Empty: any of the tenant, of a call that was refused before it named one';
COMMENT ON COLUMN intakes.since IS 'Alerts could be taken from then on; of a tenant: a limit refused one at that time';
CREATE INDEX intakes_refused ON intakes (since) WHERE org_id <> '*';
COMMENT ON COLUMN integrations.heartbeat_watch_time IS 'Not read any more, see intakes; older replicas do';
"""


def upgrade() -> None:
    """A table. Its first row is written by the first replica that serves."""
    run_script(op, TABLE)
    enable_row_security(op, "intakes")


def downgrade() -> None:
    """Without it."""
    run_script(
        op,
        """DROP TABLE intakes;
           COMMENT ON COLUMN integrations.heartbeat_watch_time IS 'When a search for missing heartbeats last ran';""",
    )
