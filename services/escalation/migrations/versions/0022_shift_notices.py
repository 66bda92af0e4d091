"""Notices of shifts: what users want, and what is planned for them.

Revision ID: 0022
Revises: 0021
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLES = ("shift_notice_choices", "shift_notices")


def upgrade() -> None:
    run_script(
        op,
        """CREATE TABLE shift_notice_choices (
             org_id text NOT NULL,
             user_id text NOT NULL,
             before_minutes integer,
             hand_over boolean NOT NULL,
             week_minute integer,
             channel text NOT NULL,
             next_due timestamptz,
             version integer NOT NULL DEFAULT 1,
             update_time timestamptz NOT NULL DEFAULT app_now(),
             CONSTRAINT shift_notice_choices_pkey PRIMARY KEY (org_id, user_id),
             CONSTRAINT shift_notice_choices_user_fkey FOREIGN KEY (org_id, user_id)
               REFERENCES users (org_id, id) ON DELETE CASCADE,
             CONSTRAINT shift_notice_choices_before CHECK (before_minutes BETWEEN 5 AND 10080),
             CONSTRAINT shift_notice_choices_week CHECK (week_minute BETWEEN 0 AND 10079)
           );
           CREATE INDEX shift_notice_choices_due ON shift_notice_choices (next_due, org_id, user_id)
             WHERE next_due IS NOT NULL;
           CREATE TABLE shift_notices (
             org_id text NOT NULL,
             user_id text NOT NULL,
             kind text NOT NULL,
             schedule_id text NOT NULL,
             start_time timestamptz NOT NULL,
             due_time timestamptz NOT NULL,
             state text NOT NULL DEFAULT 'planned',
             CONSTRAINT shift_notices_pkey PRIMARY KEY (org_id, user_id, kind, schedule_id, start_time),
             CONSTRAINT shift_notices_choice_fkey FOREIGN KEY (org_id, user_id)
               REFERENCES shift_notice_choices (org_id, user_id) ON DELETE CASCADE,
             CONSTRAINT shift_notices_kind CHECK (kind IN ('before', 'hand_over', 'week')),
             CONSTRAINT shift_notices_week CHECK ((kind = 'week') = (schedule_id = '')),
             CONSTRAINT shift_notices_state CHECK (state IN ('planned', 'sent', 'skipped'))
           );
           CREATE INDEX shift_notices_by_due ON shift_notices (org_id, user_id, due_time, kind, schedule_id, start_time);
           CREATE INDEX shift_notices_oldest ON shift_notices (start_time) WHERE state <> 'planned';""",
    )
    for table in _TABLES:
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "".join(f"DROP TABLE {table};" for table in reversed(_TABLES)))
