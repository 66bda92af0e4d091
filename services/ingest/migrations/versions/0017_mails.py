"""Mail addresses of integrations, and which alerts mails were about.

Revision ID: 0017
Revises: 0016
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

MAILS = """
ALTER TABLE integration_keys ADD COLUMN mail_hash bytea;
COMMENT ON COLUMN integration_keys.mail_hash IS
  'SHA-256 of the word in its mail address; null: the key is older than those';
CREATE UNIQUE INDEX integration_keys_by_mail ON integration_keys (mail_hash) WHERE mail_hash IS NOT NULL;
COMMENT ON COLUMN integrations.routing_rules IS
  'tocsin.ingest.v1.Integration with nothing but its routing_rules, mapping and mail';

CREATE TABLE mail_threads (
  org_id text NOT NULL,
  integration_id text NOT NULL,
  message_hash bytea NOT NULL,
  dedup_key text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  PRIMARY KEY (org_id, integration_id, message_hash),
  CONSTRAINT mail_threads_integration FOREIGN KEY (org_id, integration_id) REFERENCES integrations ON DELETE CASCADE
);
COMMENT ON COLUMN mail_threads.message_hash IS 'Of its Message-ID';
CREATE INDEX mail_threads_by_time ON mail_threads (create_time);
"""


def upgrade() -> None:
    """A column that readers of the old code do not notice, and a table."""
    run_script(op, MAILS)
    enable_row_security(op, "mail_threads")


def downgrade() -> None:
    """Without them."""
    run_script(
        op,
        """DROP TABLE mail_threads;
           ALTER TABLE integration_keys DROP COLUMN mail_hash;
           COMMENT ON COLUMN integrations.routing_rules IS
             'tocsin.ingest.v1.Integration with nothing but its routing_rules and its mapping';""",
    )
