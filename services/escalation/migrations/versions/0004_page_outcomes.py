"""The outcomes of pages: which pages are open, whether any reached a person, and each outcome once in the timeline.

The default of `pages` holds a page that never ends. Rows of code before this migration have it: the outcomes of their pages are
unknown, so they must never count as "reached no one".
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE escalations
  ADD COLUMN pages jsonb NOT NULL DEFAULT '{"00000000-0000-0000-0000-000000000000": "open"}',
  ADD COLUMN reached text NOT NULL DEFAULT 'unknown',
  ADD CONSTRAINT escalations_reached CHECK (reached IN ('unknown', 'somebody', 'nobody'));
ALTER TABLE timeline ADD COLUMN outcome text NOT NULL DEFAULT '';
CREATE UNIQUE INDEX timeline_outcome_once ON timeline (incident_id, outcome) WHERE outcome <> '';
"""
DOWN = """
DROP INDEX timeline_outcome_once;
ALTER TABLE timeline DROP COLUMN outcome;
ALTER TABLE escalations DROP COLUMN pages, DROP COLUMN reached;
"""


def upgrade() -> None:
    run_script(op, UP)


def downgrade() -> None:
    run_script(op, DOWN)
