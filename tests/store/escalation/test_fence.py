"""Every statement of the store names its tenant: without row security it finds no row of another one."""

from tocsin_escalation import store
from tocsin_stack.postgres import Postgres, tenant_url

from tests.store.fence import find_denied, find_foreign
from tests.store.newer import find_stumbling

ACROSS_TENANTS = {
    "escalations.delete_resolved": "retention: what was resolved long ago, of all tenants",
    "absences.TABLE.delete_ended": "retention: what ended long ago, of all tenants",
    "fixed_periods.TABLE.delete_ended": "retention: what ended long ago, of all tenants",
    "overrides.TABLE.delete_ended": "retention: what ended long ago, of all tenants",
    "swaps.TABLE.delete_ended": "retention: what ended long ago, of all tenants",
    "feeds.end_old": "retention: feeds that were not opened again, of all tenants",
    "reminders.due": "the sweep of reminders that are due",
    "known_shifts.tenants": "who has a user that wants to know what moves in their shifts",
    "shift_notices.tenants": "who has a user that wants notices of shifts",
    "shift_notices.due": "the sweep of notices that are due",
    "shift_notices.delete_old": "retention: notices of days ago, of all tenants",
    "pages.open_after": "what is compared with what notify knows",
    "standings.open_after": "what ingest compares its own record with",
    "counting.tenants": "who has something to count",
    "counting.delete_old": "retention: figures of long ago, of all tenants",
    "changes.horizon": "numbers of transactions, which are no tenant's",
    "calendar_imports.claim": "the loop that reads calendars of others",
    "calendar_imports.stale": "the loop that tells of those that cannot be read",
    "calendar_feeds.find": "a secret URL tells whose it is",
    "api_keys.find": "a key tells whose it is",
    "api_keys.delete_over": "retention: keys that ended long ago, of all tenants",
    "revocations.after": "what every replica of every service follows",
    "reminders.is_any_due": "the sweep of reminders that are due",
    "revocations.delete_over": "retention: what refuses nothing any more, of all tenants",
    "timers.overdue": "the sweep of overdue timers",
    "timers.nearest": "an empty Redis is filled again",
    "timers.due_within": "lost hints are armed again",
    "tasks.timers_in": "the board of the queue, for operators",
    "tasks.timers_named": "the board of the queue, for operators",
    "tasks.reminders_in": "the board of the queue, for operators",
    "tasks.reminders_named": "the board of the queue, for operators",
    "tasks.lock_reminders": "the board of the queue, for operators",
    "timers.figures": "the queue's figures, for operators",
    "timers.missing": "the repair of escalations without a timer",
    "timers.insert_due_now": "the repair of escalations without a timer",
}
"""Functions of system work, with the reason. No request of a tenant reaches one."""
NOT_CALLED: set[str] = set()

OF_THE_OWNER: set[str] = set()
"""What calls never use: they may not write to tables that are no tenant's."""

SOME_WORDS = {"escalations.state", "timers.kind", "schedule_overrides.scope"}
CHECKED_BEFORE: set[str] = {"reminders.move"}
"""Expect a row that their caller has locked, and has found to be in the state that they are for."""


async def test_no_statement_sees_or_changes_what_another_tenant_has(postgres: Postgres, url: str) -> None:
    findings = await find_foreign(postgres.url(url.rpartition("/")[2]), store)
    findings.check(ACROSS_TENANTS, not_called=NOT_CALLED)


async def test_each_login_may_run_what_it_is_for(url: str) -> None:
    assert await find_denied(url, store) == set(), "the owner's"
    assert await find_denied(tenant_url(url), store) == OF_THE_OWNER, "that of calls"


async def test_a_row_with_a_word_of_a_newer_version_ends_no_list_and_no_batch(postgres: Postgres, url: str) -> None:
    tried, stumbling = await find_stumbling(postgres.url(url.rpartition("/")[2]), store)
    assert tried >= SOME_WORDS
    assert set(stumbling) == CHECKED_BEFORE, stumbling
