"""Service accounts with their API keys, and what was revoked before its time.

Revision ID: 0010
Revises: 0009
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE service_accounts (
  org_id text NOT NULL,
  id text NOT NULL,
  display_name text NOT NULL,
  author text NOT NULL,
  version bigint NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT service_accounts_pkey PRIMARY KEY (org_id, id)
);

CREATE TABLE api_keys (
  org_id text NOT NULL,
  id uuid NOT NULL,
  service_account text NOT NULL,
  key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
  prefix text NOT NULL,
  display_name text NOT NULL,
  role text NOT NULL,
  scopes text[] NOT NULL,
  source_ranges text[] NOT NULL,
  author text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  expire_time timestamptz,
  last_use_time timestamptz,
  revoke_time timestamptz,
  CONSTRAINT api_keys_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT api_keys_account_fkey FOREIGN KEY (org_id, service_account) REFERENCES service_accounts ON DELETE CASCADE
);
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key: 32 random bytes need no slow hash';
CREATE UNIQUE INDEX api_keys_by_hash ON api_keys (key_hash);
CREATE INDEX api_keys_by_time ON api_keys (org_id, create_time, id);
CREATE INDEX api_keys_by_account ON api_keys (org_id, service_account);
CREATE INDEX api_keys_by_end ON api_keys (least(expire_time, revoke_time))
  WHERE expire_time IS NOT NULL OR revoke_time IS NOT NULL;

CREATE TABLE revocations (
  org_id text NOT NULL,
  id uuid NOT NULL,
  number bigint GENERATED ALWAYS AS IDENTITY,
  token_id text NOT NULL,
  subject text NOT NULL,
  issued_before timestamptz NOT NULL,
  of_key boolean NOT NULL,
  reason text NOT NULL,
  author text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  expire_time timestamptz NOT NULL,
  CONSTRAINT revocations_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT revocations_of_one_thing CHECK ((token_id = '') <> (subject = ''))
);
COMMENT ON COLUMN revocations.of_key IS 'Of an API key, which is shown as revoked by itself';
CREATE UNIQUE INDEX revocations_by_number ON revocations (number);
CREATE INDEX revocations_of_org ON revocations (org_id, number);
CREATE INDEX revocations_by_end ON revocations (expire_time);
CREATE INDEX revocations_by_time ON revocations (create_time);
"""


def upgrade() -> None:
    run_script(op, TABLES)
    for table in ("service_accounts", "api_keys", "revocations"):
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "DROP TABLE revocations; DROP TABLE api_keys; DROP TABLE service_accounts;")
