"""Notices to a user about changes that another user made to their contact methods.

A contact method with an empty user holds the address that a method had before it was changed.

Revision ID: 0011
Revises: 0010
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CHECKS = """
ALTER TABLE pages DROP CONSTRAINT pages_type, ADD CONSTRAINT pages_type CHECK
  (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised'{more})),
  DROP CONSTRAINT pages_incident,
  ADD CONSTRAINT pages_incident CHECK ((incident IS NULL) = (type IN ('test', 'verification'{more})));
"""
FORMER = """
CREATE INDEX contact_methods_of_nobody ON contact_methods (create_time) WHERE user_id = '' AND delete_time IS NULL;
"""
BACK = """
DELETE FROM pages WHERE type = 'contact_changed';
UPDATE contact_methods SET delete_time = app_now(), address = '', secret = NULL, key_id = ''
  WHERE user_id = '' AND delete_time IS NULL;
DROP INDEX contact_methods_of_nobody;
"""


def upgrade() -> None:
    run_script(op, CHECKS.format(more=", 'contact_changed'") + FORMER)


def downgrade() -> None:
    run_script(op, BACK + CHECKS.format(more=""))
