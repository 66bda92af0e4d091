"""Every statement of the store names its tenant: without row security it finds no row of another one."""

from tocsin_notify import store
from tocsin_stack.postgres import Postgres, tenant_url

from tests.store.fence import find_denied, find_foreign
from tests.store.newer import find_stumbling

ACROSS_TENANTS = {
    "looks.look": "one look for what is due, of all tenants",
    "candidates.look": "one look for what is due, of all tenants",
    "candidates.due": "senders take turns of all tenants",
    "candidates.expired": "the sweep of expired leases",
    "candidates.unlocked": "the sweep of expired leases",
    "candidates.named": "a hint from Redis names the notification",
    "candidates.tried_before": "a provider fails for all tenants",
    "candidates.pages_of": "senders take turns of all tenants",
    "candidates.hold_pages": "senders take turns of all tenants",
    "notifications.claim": "senders take turns of all tenants",
    "bundles.claim": "bundles of all tenants are sent when they are due",
    "quiet_bundles.due": "what waits for the end of quiet hours, of all tenants",
    "messages.due": "messages of all tenants are released when they are due",
    "messages.claim": "messages of all tenants are released when they are due",
    "recurring.due": "recurring messages of all tenants are due",
    "slack_groups.claim": "groups of all tenants are looked at when they are due",
    "digests.claim": "digests of all tenants are due",
    "notifications.upcoming": "an empty Redis is filled again",
    "senders.others": "the look for processes that died, whoever's pages they sent",
    "senders.look": "the look for processes that died, whoever's pages they sent",
    "senders.prolong": "leases that ran out while the database was away, of all tenants",
    "senders.end_leases": "the look for processes that died, whoever's pages they sent",
    "tasks.notifications_in": "the board of the queue, for operators",
    "tasks.notifications_named": "the board of the queue, for operators",
    "tasks.lock_notifications": "the board of the queue, for operators",
    "tasks.messages_in": "the board of the queue, for operators",
    "tasks.messages_named": "the board of the queue, for operators",
    "tasks.letters": "the board of the queue, for operators",
    "tasks.letters_named": "the board of the queue, for operators",
    "queues.figures": "the queue's figures, for operators",
    "queues.count_slow_retries": "the queue's figures, for operators",
    "sequels.find": "senders of what came after take turns of all tenants",
    "sequels.finished": "senders of what came after take turns of all tenants",
    "contacts.owners_of_slack": "an account of Slack names no tenant; what follows is done for the tenant of each user",
    "receipts.of_slack_message": "Slack names a message of the operator's app, and no tenant",
    "receipts.tenant_of": "a chat's button names a notification, signed, and not its tenant",
    "mail_replies.mailed_page": "the address of a reply names a notification, signed, and not its tenant",
    "sms_replies.pages": "a phone number names no tenant; what follows is done for the tenant of the page",
    "sms_replies.owner_of_number": "a phone number names no tenant",
    "sms_replies.stop": "whoever has the phone wants no more messages, of no tenant",
    "sms_replies.start": "whoever has the phone wants messages again",
    "event_deliveries.known": "escalation hands over events of all tenants",
    "event_deliveries.last": "escalation hands over events of all tenants",
    "event_deliveries.insert": "escalation hands over events of all tenants",
    "event_deliveries.take": "senders of events take turns of all tenants",
    "subscriptions.lock_of": "escalation hands over events of all tenants",
    "subscriptions.count": "escalation hands over events of all tenants",
    "subscriptions.claim": "senders of events take turns of all tenants",
    "subscriptions.tenants": "escalation is told of all tenants whose events are wanted",
    "templates.versions": "each replica learns which tenants have templates",
    "retention.delete_old": "retention: what ended long ago, of all tenants",
}
"""Functions of system work, with the reason. No request of a tenant reaches one."""
NOT_CALLED = {"retention.delete_old"}
"""Takes a statement; those are prepared only."""

OF_THE_OWNER = {
    "notifications.conclude",
    "sms_replies.may_answer",
    "sms_replies.understood",
    "sms_replies.begin",
    "sms_replies.note",
}
"""Write to `queue_counters`, `sms_senders` and `texts_received`, which are no tenant's. Calls may not, and use none that does."""

SOME_WORDS = {"contact_methods.channel", "notifications.state", "pages.type", "messages.urgency"}
CHECKED_BEFORE: set[str] = {"messages.update"}
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
