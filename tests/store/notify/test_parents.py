"""What belongs to a contact method, a page or a subscription that is deleted at the same moment is not found."""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_kit.metrics import Metrics
from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.rules import replace_rules
from tocsin_notify.app.contacts.verify import send_code
from tocsin_notify.app.events.publish_events import limits
from tocsin_notify.app.events.subscriptions import Subscriptions
from tocsin_notify.app.pages.own_pages import own_page
from tocsin_notify.domain.page import Kind, Page, Rule, Urgency
from tocsin_notify.store.answers import link_uses
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.events.subscriptions import Chosen
from tocsin_notify.store.pages import pages
from tocsin_stack.postgres import tenant_url
from tocsin_testkit.databases import dialed

from tests.store.notify.test_digest_makers import Quiet
from tests.store.parents import Write, deleted_after, deleted_before, foreign_keys

ORG = "acme"
ANA = "users/ana"
METRICS = Metrics(CollectorRegistry())


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = await dialed(database_url, name="notify-test", tenant_url=tenant_url(database_url), size=8)
    yield database
    await database.close()


async def method(db: Database) -> UUID:
    id = new_id()
    async with db.transaction(ORG) as tx:
        await tx.execute(
            """INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, key_id, disabled)
            VALUES ($1, $2, $3, '', 'console', '', '', false)""",
            id,
            ORG,
            ANA,
        )
    return id


def gone(method: UUID) -> str:
    """As DeleteContactMethod does it: notifications name the row."""
    return f"UPDATE contact_methods SET delete_time = app_now() WHERE id = '{method}'"


async def rules(db: Database) -> Write:
    id = await method(db)
    return Write("notification_rules", gone(id), lambda: replace(db, id))


async def rule_set(db: Database) -> Write:
    """It is made anew: no caller is told."""
    id = await method(db)
    await replace(db, id)
    return Write("notification_rules", f"DELETE FROM rule_sets WHERE user_id = '{ANA}'", lambda: replace(db, id))


async def replace(db: Database, method: UUID) -> None:
    await db.run(ORG, lambda tx: replace_rules(tx, ANA, [Rule(Urgency.HIGH, method, 0.0)], ""))


async def code(db: Database) -> Write:
    id = await method(db)
    sent = CodeLimits(b"key", METRICS)
    return Write(
        "verifications",
        gone(id),
        lambda: db.run(ORG, lambda tx: send_code(tx, id, Quiet(), sent, lambda user: None)),
    )


async def link(db: Database) -> Write:
    """It is told that its link leads nowhere."""
    id = await method(db)
    page = own_page(ORG, ANA, Page(Kind.TEST, Urgency.HIGH))
    await db.run(ORG, lambda tx: pages.insert(tx, [page]))
    async with db.transaction(ORG) as tx:
        await tx.execute(
            """INSERT INTO notifications (id, org_id, page_id, user_id, incident, generation, priority, contact_method, channel,
                state, step)
            VALUES ($1, $2, $3, $4, $5, 1, 0, $6, 'console', 'dead', 0)""",
            *(new_id(), ORG, page.id, ANA, page.incident, id),
        )
    return Write(
        "link_uses",
        f"DELETE FROM pages WHERE id = '{page.id}'",
        lambda: db.run(
            ORG, lambda tx: link_uses.begin(tx, page.id, 1, "acknowledge", types=[Kind.TEST], expire=1 << 40)
        ),
    )


async def ping(db: Database) -> Write:
    subscriptions = Subscriptions(Cipher([b"s" * 32]), Budgets(limits(9, 9), METRICS), lambda: None, allow_private=True)
    chosen = Chosen("", "https://example.com/events", (), (), 0, False)
    made, _ = await db.run(ORG, lambda tx: subscriptions.create(tx, chosen, ANA))
    return Write(
        "event_deliveries",
        f"DELETE FROM subscriptions WHERE id = '{made.id}'",
        lambda: db.run(ORG, lambda tx: subscriptions.ping(tx, made.id, 10.0)),
    )


Case = Callable[[Database], Awaitable[Write]]
CASES: dict[str, tuple[Case, str]] = {
    "event_deliveries -> subscriptions": (ping, "SUBSCRIPTION_NOT_FOUND"),
    "link_uses -> pages": (link, ""),
    "notification_rules -> contact_methods": (rules, "CONTACT_METHOD_NOT_FOUND"),
    "notification_rules -> rule_sets": (rule_set, ""),
    "verifications -> contact_methods": (code, "CONTACT_METHOD_NOT_FOUND"),
}
WRITTEN_BY_OWNER = {
    "attempts -> notifications": "the statement that inserts or claims the notification",
    "bundle_pages -> pages": "the transaction that inserts the page",
    "delivery_attempts -> event_deliveries": "the transaction that concludes the delivery",
    "notifications -> pages": "the transaction that inserts the page, or holds a notification of it that retention spares",
    "templates -> template_sets": "the transaction that makes or changes the set; none is ever deleted",
}
"""Rows that no call writes without holding what they refer to."""


async def test_each_foreign_key_is_walked(db: Database) -> None:
    assert await foreign_keys(db) == {*CASES, *WRITTEN_BY_OWNER}, "add what writes the new one"


@pytest.mark.parametrize(("case", "reason"), [pytest.param(*each, id=each[0].__name__) for each in CASES.values()])
async def test_a_parent_that_is_deleted_meanwhile_is_not_found_and_one_that_was_found_stays(
    db: Database, case: Case, reason: str
) -> None:
    assert await deleted_before(db, await case(db)) == reason
    assert await deleted_after(db, await case(db)) == ""
