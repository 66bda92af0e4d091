"""Digests: who wants one, when the next is due, and pages of that type.

Revision ID: 0028
Revises: 0027
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

# Validated by 0029: reading all pages here would hold up every page meanwhile.
CHECKS = """
ALTER TABLE pages DROP CONSTRAINT pages_type, ADD CONSTRAINT pages_type CHECK
  (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised',
   'contact_changed', 'message', 'bundle'{digest})) NOT VALID,
  DROP CONSTRAINT pages_incident,
  ADD CONSTRAINT pages_incident CHECK
    (type = 'message' OR (incident IS NULL) = (type IN ('test', 'verification', 'contact_changed'{digest}))) NOT VALID;
"""
TABLE = """
CREATE TABLE digests (
  org_id text NOT NULL,
  user_id text NOT NULL,
  frequency text NOT NULL,
  hour smallint NOT NULL,
  weekday smallint NOT NULL,
  time_zone text NOT NULL,
  contact_method uuid,
  when_empty text NOT NULL,
  next_time timestamptz NOT NULL,
  lease_until timestamptz,
  latest_time timestamptz,
  latest_result text NOT NULL DEFAULT '',
  latest_page uuid,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT digests_pkey PRIMARY KEY (org_id, user_id, frequency),
  CONSTRAINT digests_frequency CHECK (frequency IN ('daily', 'weekly')),
  CONSTRAINT digests_hour CHECK (hour BETWEEN 0 AND 23),
  CONSTRAINT digests_weekday CHECK (CASE frequency WHEN 'weekly' THEN weekday BETWEEN 1 AND 7 ELSE weekday = 0 END),
  CONSTRAINT digests_when_empty CHECK (when_empty IN ('nothing', 'one_line'))
);
CREATE INDEX digests_due ON digests (next_time);
"""
BACK = """
DELETE FROM pages WHERE type = 'digest';
DROP TABLE digests;
"""


def upgrade() -> None:
    run_script(op, CHECKS.format(digest=", 'digest'") + TABLE)
    enable_row_security(op, "digests")


def downgrade() -> None:
    run_script(op, BACK + CHECKS.format(digest=""))
