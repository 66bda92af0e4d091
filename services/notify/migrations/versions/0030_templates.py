"""Texts of messages by their tenants.

Revision ID: 0030
Revises: 0029
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE template_sets (
  org_id text NOT NULL,
  version bigint NOT NULL DEFAULT 1,
  live boolean NOT NULL DEFAULT true,
  CONSTRAINT template_sets_pkey PRIMARY KEY (org_id)
);
CREATE TABLE templates (
  id uuid NOT NULL,
  org_id text NOT NULL,
  type text NOT NULL,
  language text NOT NULL,
  subject text NOT NULL,
  text text NOT NULL,
  sms text NOT NULL,
  chat text NOT NULL,
  voice text NOT NULL,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT templates_pkey PRIMARY KEY (id),
  CONSTRAINT templates_one_of_each UNIQUE (org_id, type, language),
  CONSTRAINT templates_set_fkey FOREIGN KEY (org_id) REFERENCES template_sets (org_id),
  CONSTRAINT templates_type CHECK (type ~ '^[a-z][a-z0-9_]{0,31}$')
);
CREATE INDEX templates_oldest ON templates (org_id, create_time, id);
"""


def upgrade() -> None:
    run_script(op, TABLES)
    enable_row_security(op, "template_sets")
    enable_row_security(op, "templates")


def downgrade() -> None:
    run_script(op, "DROP TABLE templates; DROP TABLE template_sets")
