"""Every statement of the store names its tenant: without row security it finds no row of another one."""

from tocsin_ingest import store
from tocsin_stack.postgres import Postgres, tenant_url

from tests.store.fence import find_denied, find_foreign
from tests.store.newer import find_stumbling

ACROSS_TENANTS = {
    "differences.open_after": "the comparison with escalation's record",
    "differences.open_anew": "the repair of what the comparison found",
    "differences.count_on": "the repair of what the comparison found",
    "differences.close_there": "the repair of what the comparison found",
    "holds.hurry": "looks again at what silences held back that were changed",
    "due_alerts.is_any_due": "whether there is anything to look at again",
    "holds.due": "looks again at what silences held back that have ended",
    "holds.overdue": "a figure of the whole service",
    "pauses.due": "looks again at what was paused, when that is over",
    "pauses.overdue": "a figure of the whole service",
    "endings.due": "the search for alerts whose end has come",
    "heartbeats.due": "the search for heartbeats that are missing",
    "intakes.refuse": "notes what limits have refused lately, of all tenants at once",
    "intakes.untold": "finds what limits refused since the last report, of all tenants",
    "quiet.wanted": "whether the search for quiet incidents has anything to do",
    "quiet.open_after": "the search for incidents of which nothing is heard any more",
    "integrations.find_keys": "a sender's key says which tenant it is of",
    "integrations.find_mail_address": "the address of a mail says which tenant it is of",
    "refusals.due": "finds what was refused since the last report, of all tenants",
    "retention.delete_old": "retention: what ended long ago, of all tenants",
}
"""Functions of system work, with the reason. No request of a tenant reaches one."""
NOT_CALLED = {"retention.delete_old", "writing.write"}
"""Take a statement, or a snapshot that a batch was applied to: their statements are prepared only."""

OF_THE_OWNER: set[str] = set()
"""What calls never use: they may not write to tables that are no tenant's."""

SOME_WORDS = {"alerts.state"}
CHECKED_BEFORE: set[str] = set()
"""Expect a row that their caller has locked, and has found to be in the state that they are for."""


async def test_no_statement_sees_or_changes_what_another_tenant_has(postgres: Postgres, database_url: str) -> None:
    findings = await find_foreign(postgres.url(database_url.rpartition("/")[2]), store)
    findings.check(ACROSS_TENANTS, not_called=NOT_CALLED)


async def test_each_login_may_run_what_it_is_for(database_url: str) -> None:
    assert await find_denied(database_url, store) == set(), "the owner's"
    assert await find_denied(tenant_url(database_url), store) == OF_THE_OWNER, "that of calls"


async def test_a_row_with_a_word_of_a_newer_version_ends_no_list_and_no_batch(
    postgres: Postgres, database_url: str
) -> None:
    tried, stumbling = await find_stumbling(postgres.url(database_url.rpartition("/")[2]), store)
    assert tried >= SOME_WORDS
    assert set(stumbling) == CHECKED_BEFORE, stumbling
