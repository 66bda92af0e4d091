"""Contact methods, rules, pages, notifications, attempts, fences, dead letters.

What must hold no matter what the code does is a constraint here: a pending notification has a due time, one being sent has a
lease, one that is over has neither; a page plans each step through each method once.
"""

from alembic import op
from tocsin_kit.db.migrations import create_app_now, enable_row_security, requests_table, run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE contact_methods (
  id uuid NOT NULL,
  org_id text NOT NULL,
  user_id text NOT NULL,
  display_name text NOT NULL,
  channel text NOT NULL,
  address text NOT NULL,
  secret bytea,
  key_id text NOT NULL,
  disabled boolean NOT NULL,
  verify_time timestamptz,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  delete_time timestamptz,
  CONSTRAINT contact_methods_pkey PRIMARY KEY (id),
  CONSTRAINT contact_methods_channel CHECK (channel IN ('email', 'webhook', 'console')),
  CONSTRAINT webhook_has_secret CHECK ((channel = 'webhook' AND delete_time IS NULL) = (secret IS NOT NULL)),
  CONSTRAINT deleted_is_forgotten CHECK (delete_time IS NULL OR (address = '' AND verify_time IS NULL))
);
CREATE INDEX contact_methods_by_user ON contact_methods (org_id, user_id, create_time, id) WHERE delete_time IS NULL;
CREATE INDEX contact_methods_oldest ON contact_methods (org_id, create_time, id) WHERE delete_time IS NULL;

CREATE TABLE rule_sets (
  org_id text NOT NULL,
  user_id text NOT NULL,
  version int NOT NULL DEFAULT 1,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT rule_sets_pkey PRIMARY KEY (org_id, user_id)
);

CREATE TABLE notification_rules (
  org_id text NOT NULL,
  user_id text NOT NULL,
  position int NOT NULL,
  urgency text NOT NULL,
  contact_method uuid NOT NULL,
  delay_seconds double precision NOT NULL,
  CONSTRAINT notification_rules_pkey PRIMARY KEY (org_id, user_id, position),
  CONSTRAINT notification_rules_set_fkey FOREIGN KEY (org_id, user_id) REFERENCES rule_sets ON DELETE CASCADE,
  CONSTRAINT notification_rules_method_fkey FOREIGN KEY (contact_method) REFERENCES contact_methods,
  CONSTRAINT notification_rules_urgency CHECK (urgency IN ('high', 'low')),
  CONSTRAINT notification_rules_delay CHECK (delay_seconds BETWEEN 0 AND 86400)
);
CREATE INDEX notification_rules_by_method ON notification_rules (contact_method);

CREATE TABLE verifications (
  id uuid NOT NULL,
  org_id text NOT NULL,
  contact_method uuid NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  expire_time timestamptz NOT NULL,
  wrong_tries int NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  CONSTRAINT verifications_pkey PRIMARY KEY (id),
  CONSTRAINT verifications_method_fkey FOREIGN KEY (contact_method) REFERENCES contact_methods ON DELETE CASCADE,
  CONSTRAINT verifications_tries CHECK (wrong_tries BETWEEN 0 AND 5)
);
CREATE INDEX verifications_by_method ON verifications (contact_method, create_time DESC);
CREATE INDEX verifications_oldest ON verifications (create_time);

CREATE TABLE pages (
  id uuid NOT NULL,
  org_id text NOT NULL,
  user_id text NOT NULL,
  incident uuid,
  type text NOT NULL,
  urgency text NOT NULL,
  priority smallint NOT NULL,
  level int NOT NULL,
  repeat int NOT NULL,
  generation int NOT NULL,
  planned_time timestamptz,
  channel_override text,
  only_method uuid,
  job bytea NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT pages_pkey PRIMARY KEY (id),
  CONSTRAINT pages_type CHECK
    (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification')),
  CONSTRAINT pages_incident CHECK ((incident IS NULL) = (type IN ('test', 'verification'))),
  CONSTRAINT pages_priority CHECK (priority IN (0, 1))
);
CREATE INDEX pages_oldest ON pages (create_time);

CREATE TABLE notifications (
  id uuid NOT NULL,
  org_id text NOT NULL,
  page_id uuid NOT NULL,
  user_id text NOT NULL,
  incident uuid,
  generation int NOT NULL,
  priority smallint NOT NULL,
  contact_method uuid NOT NULL,
  channel text NOT NULL,
  step int NOT NULL,
  state text NOT NULL,
  state_reason text NOT NULL DEFAULT '',
  due_time timestamptz,
  lease_until timestamptz,
  attempts int NOT NULL DEFAULT 0,
  tries int NOT NULL DEFAULT 0,
  attempt_group int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  send_time timestamptz,
  CONSTRAINT notifications_pkey PRIMARY KEY (id),
  CONSTRAINT notifications_once_per_step UNIQUE (page_id, contact_method, step),
  CONSTRAINT notifications_page_fkey FOREIGN KEY (page_id) REFERENCES pages ON DELETE CASCADE,
  CONSTRAINT notifications_method_fkey FOREIGN KEY (contact_method) REFERENCES contact_methods,
  CONSTRAINT notifications_state CHECK (state IN ('pending', 'sending', 'sent', 'cancelled', 'dead')),
  CONSTRAINT pending_has_due_time CHECK ((state = 'pending') = (due_time IS NOT NULL)),
  CONSTRAINT sending_has_lease CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
  CONSTRAINT sent_has_time CHECK ((state = 'sent') = (send_time IS NOT NULL)),
  CONSTRAINT sending_has_attempt CHECK (state <> 'sending' OR (attempts >= 1 AND tries >= 1))
);
CREATE INDEX notifications_claim ON notifications (priority, org_id, due_time) WHERE state = 'pending';
CREATE INDEX notifications_due ON notifications (due_time, id) WHERE state = 'pending';
CREATE INDEX notifications_leases ON notifications (lease_until) WHERE state = 'sending';
CREATE INDEX notifications_live_by_method ON notifications (contact_method) WHERE state = 'pending';
CREATE INDEX notifications_newest ON notifications (org_id, create_time DESC, id DESC);
CREATE INDEX notifications_by_incident ON notifications (org_id, incident, create_time DESC, id DESC);
CREATE INDEX notifications_by_state ON notifications (org_id, state, create_time DESC, id DESC) WHERE state <> 'sent';
CREATE INDEX notifications_by_user ON notifications (org_id, user_id, create_time DESC, id DESC);

CREATE TABLE attempts (
  org_id text NOT NULL,
  notification_id uuid NOT NULL,
  number int NOT NULL,
  start_time timestamptz NOT NULL DEFAULT app_now(),
  end_time timestamptz,
  outcome text NOT NULL DEFAULT 'started',
  detail text NOT NULL DEFAULT '',
  provider_id text NOT NULL DEFAULT '',
  CONSTRAINT attempts_pkey PRIMARY KEY (notification_id, number),
  CONSTRAINT attempts_notification_fkey FOREIGN KEY (notification_id) REFERENCES notifications ON DELETE CASCADE,
  CONSTRAINT attempts_outcome CHECK (outcome IN ('started', 'sent', 'retryable', 'permanent')),
  CONSTRAINT attempts_end CHECK ((outcome = 'started') = (end_time IS NULL))
);

CREATE TABLE cancel_fences (
  org_id text NOT NULL,
  incident uuid NOT NULL,
  generation int NOT NULL,
  reason text NOT NULL,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT cancel_fences_pkey PRIMARY KEY (org_id, incident)
);
CREATE INDEX cancel_fences_oldest ON cancel_fences (update_time);

CREATE TABLE dead_letters (
  id uuid NOT NULL,
  org_id text NOT NULL,
  notification_id uuid,
  page_id uuid,
  user_id text NOT NULL,
  incident uuid,
  reason text NOT NULL,
  detail text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  redrive_time timestamptz,
  job bytea,
  raw bytea,
  source text,
  CONSTRAINT dead_letters_pkey PRIMARY KEY (id),
  CONSTRAINT dead_letters_source UNIQUE (source),
  CONSTRAINT dead_letters_reason CHECK
    (reason IN ('ATTEMPTS_EXHAUSTED', 'PERMANENT_FAILURE', 'NO_CONTACT_METHOD', 'UNREADABLE_JOB')),
  CONSTRAINT dead_letters_keep_the_job CHECK ((reason = 'UNREADABLE_JOB') = (raw IS NOT NULL))
);
CREATE INDEX dead_letters_newest ON dead_letters (org_id, create_time DESC, id DESC);
CREATE INDEX dead_letters_waiting ON dead_letters (org_id, create_time DESC, id DESC) WHERE redrive_time IS NULL;
CREATE INDEX dead_letters_oldest ON dead_letters (create_time);

CREATE TABLE queue_pauses (
  queue text NOT NULL,
  pause_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT queue_pauses_pkey PRIMARY KEY (queue)
);

CREATE TABLE queue_counters (
  queue text NOT NULL,
  shard smallint NOT NULL,
  completed bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  CONSTRAINT queue_counters_pkey PRIMARY KEY (queue, shard)
);
"""

TENANT_TABLES = [
    "contact_methods",
    "rule_sets",
    "notification_rules",
    "verifications",
    "pages",
    "notifications",
    "attempts",
    "cancel_fences",
    "dead_letters",
]


def upgrade() -> None:
    create_app_now(op)
    run_script(op, TABLES)
    for table in TENANT_TABLES:
        enable_row_security(op, table)
    requests_table(op)


def downgrade() -> None:
    for table in ["queue_pauses", "queue_counters", *reversed(TENANT_TABLES), "requests"]:
        run_script(op, f"DROP TABLE {table}")
    run_script(op, "DROP FUNCTION app_now()")
