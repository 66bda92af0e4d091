"""Overrides that put people on call in addition to those of the schedule.

Revision ID: 0032
Revises: 0031
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE schedule_overrides DROP CONSTRAINT schedule_overrides_scope;
           ALTER TABLE schedule_overrides ADD CONSTRAINT schedule_overrides_scope
             CHECK (scope IN ('schedule', 'layer', 'person', 'beside'));""",
    )


def downgrade() -> None:
    run_script(
        op,
        """DELETE FROM schedule_overrides WHERE scope = 'beside';
           ALTER TABLE schedule_overrides DROP CONSTRAINT schedule_overrides_scope;
           ALTER TABLE schedule_overrides ADD CONSTRAINT schedule_overrides_scope
             CHECK (scope IN ('schedule', 'layer', 'person'));""",
    )
