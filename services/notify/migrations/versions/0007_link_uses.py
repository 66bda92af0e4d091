"""Which links of a page were used: a link acts once."""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE link_uses (
  org_id text NOT NULL,
  page_id uuid NOT NULL,
  turn int NOT NULL,
  action text NOT NULL,
  use_time timestamptz NOT NULL DEFAULT app_now(),
  done boolean NOT NULL DEFAULT false,
  CONSTRAINT link_uses_pkey PRIMARY KEY (org_id, page_id, turn),
  CONSTRAINT link_uses_page_fkey FOREIGN KEY (page_id) REFERENCES pages ON DELETE CASCADE,
  CONSTRAINT link_uses_action CHECK (action IN ('acknowledge', 'escalate', 'resolve', 'note'))
);
CREATE INDEX link_uses_by_page ON link_uses (page_id);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "link_uses")


def downgrade() -> None:
    run_script(op, "DROP TABLE link_uses")
