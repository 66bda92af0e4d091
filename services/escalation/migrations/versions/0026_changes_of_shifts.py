"""Messages about changes of shifts and about swaps: who wants them, and what users know of their shifts.

Revision ID: 0026
Revises: 0025
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE shift_notice_choices ADD COLUMN changes boolean NOT NULL DEFAULT false;
           ALTER TABLE shift_notice_choices ADD COLUMN swaps boolean NOT NULL DEFAULT false;
           CREATE INDEX shift_notice_choices_changes ON shift_notice_choices (org_id, user_id) WHERE changes;
           CREATE TABLE known_shifts (
             org_id text NOT NULL,
             user_id text NOT NULL,
             until timestamptz NOT NULL,
             stretches jsonb NOT NULL,
             changed_time timestamptz,
             version integer NOT NULL DEFAULT 1,
             CONSTRAINT known_shifts_pkey PRIMARY KEY (org_id, user_id),
             CONSTRAINT known_shifts_choice_fkey FOREIGN KEY (org_id, user_id)
               REFERENCES shift_notice_choices (org_id, user_id) ON DELETE CASCADE
           );
           COMMENT ON COLUMN known_shifts.stretches IS 'By schedule: minutes [start, end) since 1970';
           COMMENT ON COLUMN known_shifts.changed_time IS 'Since when the schedules say something else';""",
    )
    enable_row_security(op, "known_shifts")


def downgrade() -> None:
    run_script(
        op,
        """DROP TABLE known_shifts;
           DROP INDEX shift_notice_choices_changes;
           ALTER TABLE shift_notice_choices DROP COLUMN changes;
           ALTER TABLE shift_notice_choices DROP COLUMN swaps;""",
    )
