"""Levels that page one person after the other: whose turn it is, and when such a level ends.

Revision ID: 0011
Revises: 0010
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """CREATE TABLE policy_turns (
             org_id text NOT NULL,
             policy_id text NOT NULL,
             users text[] NOT NULL DEFAULT '{}',
             CONSTRAINT policy_turns_pkey PRIMARY KEY (org_id, policy_id),
             CONSTRAINT policy_turns_policy_fkey FOREIGN KEY (org_id, policy_id) REFERENCES policies ON DELETE CASCADE
           );
           ALTER TABLE timers ADD COLUMN level_end timestamptz;""",
    )
    enable_row_security(op, "policy_turns")


def downgrade() -> None:
    run_script(op, "DROP TABLE policy_turns; ALTER TABLE timers DROP COLUMN level_end;")
