"""Silences that come again.

Revision ID: 0009
Revises: 0008
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE silences ADD COLUMN time_zone text NOT NULL DEFAULT '', ADD COLUMN days smallint[] NOT NULL DEFAULT '{}',
  ADD COLUMN window_end timestamptz,
  ADD CONSTRAINT silences_recurring CHECK ((time_zone = '') = (window_end IS NULL));
COMMENT ON COLUMN silences.time_zone IS 'Empty: it does not come again, and holds from start_time to end_time';
COMMENT ON COLUMN silences.days IS 'Of the week, on which windows begin, Monday is 1; none: every day';
COMMENT ON COLUMN silences.window_end IS 'Of the first window, of one that comes again';
"""


def upgrade() -> None:
    """Three columns."""
    run_script(op, COLUMNS)


def downgrade() -> None:
    """Without them. A silence that comes again would hold for all of its time, so it goes."""
    run_script(
        op,
        """DELETE FROM silences WHERE time_zone <> '';
           ALTER TABLE silences DROP COLUMN time_zone, DROP COLUMN days, DROP COLUMN window_end;""",
    )
