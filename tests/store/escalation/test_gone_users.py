"""What follows when a user is disabled, enabled or deleted: notify is told, and the user's objects pass to no other user."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin_escalation.app.incidents import followers
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.incidents.gone_users import GoneUsers
from tocsin_escalation.app.incidents.jobs import USER
from tocsin_escalation.app.people import people
from tocsin_escalation.domain.decision import PageType, page_id
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome
from tocsin_escalation.store.people.directory import UserRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.recorders import ORG, Desk


async def test_each_change_is_told_in_its_order_and_others_are_not(desk: Desk) -> None:
    def changed(**fields: object) -> Callable[[Tx], Awaitable[object]]:
        def change(row: UserRow) -> UserRow:
            return replace(row, **fields)  # type: ignore[arg-type]

        return lambda tx: people.update_user(tx, "ana", "", change)

    for work in (
        changed(display_name="Ana Maria"),
        changed(disabled=True),
        changed(disabled=True, time_zone="Europe/Berlin"),
        changed(disabled=False),
        lambda tx: people.delete_user(tx, "ana", ""),
    ):
        await desk.db.run(ORG, work)
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT org_id, ordering_key, payload FROM outbox WHERE kind = $1 ORDER BY id", USER)
    told = [pb.UserChange.FromString(row["payload"]) for row in rows]
    assert {(row["org_id"], row["ordering_key"]) for row in rows} == {(ORG, "users/ana")}
    assert [(each.org_id, each.user, each.standing) for each in told] == [
        (ORG, "users/ana", pb.USER_STANDING_DISABLED),
        (ORG, "users/ana", pb.USER_STANDING_ENABLED),
        (ORG, "users/ana", pb.USER_STANDING_DELETED),
    ]
    times = [each.change_time.ToDatetime() for each in told]
    assert times == sorted(times)


async def test_another_user_of_the_same_id_gets_nothing_of_the_one_before(desk: Desk) -> None:
    """Absences of a user who left kept their successor from being paged, and their feed showed the shifts of the successor."""
    feed, offered, taken, left = uuid4(), uuid4(), uuid4(), uuid4()
    await desk.passes(minutes=5)
    async with desk.db.system() as tx:
        now = (await tx.now()).replace(second=0, microsecond=0)
        hour = timedelta(hours=1)
        for start, end in ((-3, -2), (-1, 1), (1, 2)):
            await tx.execute(
                """INSERT INTO absences (org_id, id, user_id, start_time, end_time, reason, author)
                   VALUES ($1, $2, 'ana', $3, $4, '', '')""",
                ORG,
                uuid4(),
                now + start * hour,
                now + end * hour,
            )
        await tx.execute(
            """INSERT INTO calendar_feeds (org_id, id, user_id, schedule_id, display_name, secret_hash, prefix, author)
               VALUES ($1, $2, 'ana', '', '', $3, '', '')""",
            ORG,
            feed,
            bytes(32),
        )
        await tx.execute(
            """INSERT INTO schedules (org_id, id, display_name, description, time_zone, layers, stand_in)
               VALUES ($1, 's', '', '', 'UTC', '[]', false)""",
            ORG,
        )
        for id, user, to in ((offered, "ana", []), (taken, "ben", ["ana"]), (left, "ben", ["ana", "cem"])):
            await tx.execute(
                """INSERT INTO swaps (org_id, id, schedule_id, user_id, start_time, end_time, offered_to, reason, author)
                   VALUES ($1, $2, 's', $3, $4, $5, $6, '', '')""",
                ORG,
                id,
                user,
                now + hour,
                now + 2 * hour,
                to,
            )
        await tx.execute(
            """INSERT INTO reminders (id, org_id, user_id, text, next_time, creator) VALUES ($1, $2, 'ana', 'x', $3, '')""",
            uuid4(),
            ORG,
            now + hour,
        )
    await desk.db.run(ORG, lambda tx: people.delete_user(tx, "ana", ""))
    async with desk.db.system() as tx:
        kept = await tx.fetch("SELECT start_time, end_time FROM absences WHERE org_id = $1 ORDER BY start_time", ORG)
        assert [tuple(row) for row in kept] == [(now - 3 * hour, now - 2 * hour), (now - hour, now)]
        assert await tx.fetchval("SELECT count(*) FROM calendar_feeds WHERE org_id = $1", ORG) == 0
        swaps = {row["id"]: (row["state"], row["offered_to"]) for row in await tx.fetch("SELECT * FROM swaps")}
        assert swaps == {
            offered: ("withdrawn", []),
            taken: ("declined", ["ana"]),
            left: ("offered", ["cem"]),
        }
        [reminder] = await tx.fetch("SELECT state, state_reason, next_time FROM reminders WHERE org_id = $1", ORG)
        assert tuple(reminder) == ("stopped", "users/ana was deleted", None)


async def test_who_was_deleted_follows_nothing_any_more(desk: Desk) -> None:
    """Each change of an incident was a message to a user who did not exist, and another user of the same id got them."""
    followed, other = await desk.opens(), await desk.opens()

    async def follows(tx: Tx) -> None:
        for incident, users in ((followed, ("ana", "ben")), (other, ("ben",))):
            for user in users:
                await followers.follow(tx, incident, user, "")

    await desk.db.run(ORG, follows)
    await desk.db.run(ORG, lambda tx: people.delete_user(tx, "ana", ""))
    async with desk.db.transaction(ORG) as tx:
        assert [await followers.of_incident(tx, each) for each in (followed, other)] == [{"ben": ""}] * 2


def gone(how: pb.UserStanding.ValueType, *, org_id: str = ORG) -> list[pb.UserChange]:
    return [pb.UserChange(org_id=org_id, user="users/ana", standing=how)]


async def accepted(desk: Desk, incident: UUID, *, org_id: str = ORG) -> None:
    """A provider took ana's page of the present level."""
    run = await desk.run(incident)
    page = page_id(run, PageType.ESCALATION, run.level, "ana")
    sent = PageOutcome(page, "ana", OutcomeKind.SENT, run.level, channel="SMS")
    assert await apply_outcomes(desk.db, desk.effects, [OutcomeArrival(org_id, incident, sent)]) == [
        OutcomeResult.APPLIED
    ]


async def leaves(desk: Desk, how: pb.UserStanding.ValueType) -> None:
    if how == pb.USER_STANDING_DELETED:
        await desk.db.run(ORG, lambda tx: people.delete_user(tx, "ana", ""))
    else:
        await desk.db.run(ORG, lambda tx: people.update_user(tx, "ana", "", lambda row: replace(row, disabled=True)))


@pytest.mark.parametrize("how", [pb.USER_STANDING_DISABLED, pb.USER_STANDING_DELETED])
async def test_a_level_does_not_wait_for_one_who_is_gone(desk: Desk, how: pb.UserStanding.ValueType) -> None:
    """They were paged and cannot answer any more: the level waited for them until its time was over."""
    incidents = [await desk.opens() for _ in range(120)]  # more than are taken together
    for incident in incidents:
        await accepted(desk, incident)
    await leaves(desk, how)
    await GoneUsers(desk.db, desk.effects)(gone(how))
    for incident in incidents:
        assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]


async def test_a_level_is_left_once_whatever_is_repeated(desk: Desk) -> None:
    """Two replicas at once, and a row of the outbox that is delivered again."""
    incident = await desk.opens()
    await accepted(desk, incident)
    await leaves(desk, pb.USER_STANDING_DELETED)
    follow = GoneUsers(desk.db, desk.effects)
    await asyncio.gather(*(follow(gone(pb.USER_STANDING_DELETED)) for _ in range(4)))
    await follow(gone(pb.USER_STANDING_DELETED))
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]
    assert (await desk.said(incident)).count("page_unreachable") == 1


async def test_one_who_was_enabled_again_is_waited_for(desk: Desk) -> None:
    incident = await desk.opens()
    await accepted(desk, incident)
    await GoneUsers(desk.db, desk.effects)(gone(pb.USER_STANDING_DISABLED))
    await GoneUsers(desk.db, desk.effects)(gone(pb.USER_STANDING_ENABLED))
    assert await desk.paged(incident) == [(1, "ana")]


async def test_what_is_answered_and_what_is_anothers_stays_as_it_is(desk: Desk) -> None:
    answered, waiting = await desk.opens(), await desk.opens()
    for incident in (answered, waiting):
        await accepted(desk, incident)
    await desk.take(answered, Acknowledged("users/ana"))
    await leaves(desk, pb.USER_STANDING_DELETED)
    before = await desk.run(answered)
    await GoneUsers(desk.db, desk.effects)(gone(pb.USER_STANDING_DELETED, org_id="another"))
    assert await desk.paged(waiting) == [(1, "ana")]
    await GoneUsers(desk.db, desk.effects)(gone(pb.USER_STANDING_DELETED))
    assert await desk.run(answered) == before
    assert await desk.paged(waiting) == [(1, "ana"), (2, "ben")]


async def test_a_page_that_no_provider_has_accepted_is_left_to_notify(desk: Desk) -> None:
    incident = await desk.opens()
    await leaves(desk, pb.USER_STANDING_DELETED)
    await GoneUsers(desk.db, desk.effects)(gone(pb.USER_STANDING_DELETED))
    assert await desk.paged(incident) == [(1, "ana")]
