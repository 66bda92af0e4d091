"""Notification settings through a real socket: what counts for whom, whose they are, and what is refused."""

import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin.type.v1.weekday_pb2 import Weekday

from tests.contract.notify.caller import ANA, Caller, Door, refused
from tests.store.notify.support import bearer, new_org

ALL = "users/*"


def settings(user: str, pages: int | None = None, seconds: int | None = None) -> pb.NotificationSettings:
    made = pb.NotificationSettings(user=user)
    if pages is not None:
        made.page_budget.pages = pages
    if seconds is not None:
        made.page_budget.window.seconds = seconds
    return made


def quiet(zone: str, *windows: tuple[str, str], days: int = 7) -> pb.QuietHours:
    every = Weekday.values()[1 : days + 1]
    return pb.QuietHours(time_zone=zone, windows=[pb.QuietWindow(days=every, start=a, end=b) for a, b in windows])


def with_quiet(hours: pb.QuietHours, user: str = ANA) -> pb.NotificationSettings:
    return pb.NotificationSettings(user=user, quiet_hours=hours)


def change(given: pb.NotificationSettings) -> pb.UpdateNotificationSettingsRequest:
    return pb.UpdateNotificationSettingsRequest(notification_settings=given)


async def counts(caller: Caller, user: str) -> tuple[int, int]:
    """The budget that counts: pages and seconds."""
    answer = await caller.GetNotificationSettings(pb.GetNotificationSettingsRequest(user=user))
    budget = answer.effective.page_budget
    return budget.pages, budget.window.seconds


async def test_a_user_has_what_they_chose_else_the_organisations_else_the_operators(door: Door) -> None:
    caller, others = Caller(door.notify, new_org()), Caller(door.notify, new_org())
    assert await counts(caller, ANA) == (0, 300), "the replica of the tests bundles nothing by itself"
    await caller.UpdateNotificationSettings(change(settings(ALL, 20)))
    assert await counts(caller, ANA) == await counts(caller, ALL) == (20, 300)
    written = (await caller.UpdateNotificationSettings(change(settings(ANA, 5, 60)))).notification_settings
    assert (written.page_budget.pages, written.page_budget.window.seconds, written.etag) == (5, 60, "v1")
    assert (await counts(caller, ANA), await counts(caller, "users/ben")) == ((5, 60), (20, 300))
    await caller.UpdateNotificationSettings(change(settings(ANA, 0)))
    assert (await counts(caller, ANA))[0] == 0, "off, whatever the organisation has"
    await caller.UpdateNotificationSettings(change(settings(ANA)))
    assert await counts(caller, ANA) == (20, 300), "as the organisation's again"
    read = (await caller.GetNotificationSettings(pb.GetNotificationSettingsRequest(user=ANA))).notification_settings
    assert (read.HasField("page_budget"), read.etag) == (False, "v3")
    assert await counts(others, ANA) == (0, 300), "another tenant's"


async def test_quiet_hours_are_kept_as_they_were_given(door: Door) -> None:
    caller = Caller(door.notify, new_org())
    nights = quiet("Europe/Berlin", ("22:00", "07:00"), ("12:00", "24:00"))
    written = (await caller.UpdateNotificationSettings(change(with_quiet(nights, ALL)))).notification_settings
    assert written.quiet_hours == nights
    asked = pb.GetNotificationSettingsRequest(user=ANA)
    assert (await caller.GetNotificationSettings(asked)).effective.quiet_hours == nights
    await caller.UpdateNotificationSettings(change(with_quiet(pb.QuietHours())))
    told = await caller.GetNotificationSettings(asked)
    assert told.notification_settings.HasField("quiet_hours"), "never quiet, whatever the organisation has"
    assert not told.effective.quiet_hours.windows


async def test_the_language_is_the_users_else_the_organisations_else_english(door: Door) -> None:
    caller, asked = Caller(door.notify, new_org()), pb.GetNotificationSettingsRequest(user=ANA)

    async def language() -> str:
        return str((await caller.GetNotificationSettings(asked)).effective.language)

    assert await language() == "en"
    await caller.UpdateNotificationSettings(change(pb.NotificationSettings(user=ALL, language="de")))
    assert await language() == "de"
    await caller.UpdateNotificationSettings(change(pb.NotificationSettings(user=ANA, language="en")))
    assert await language() == "en"
    unknown = caller.UpdateNotificationSettings(change(pb.NotificationSettings(user=ANA, language="fr")))
    assert [each.field for each in (await refused(unknown)).fields] == ["notification_settings.language"]


async def test_settings_that_changed_meanwhile_are_not_overwritten(visitor: Caller) -> None:
    first = settings(ANA, 5)
    first.etag = "v0"
    await visitor.UpdateNotificationSettings(change(first))
    assert (await refused(visitor.UpdateNotificationSettings(change(first)))).reason_name == "ETAG_MISMATCH"


async def test_the_organisations_are_for_those_who_may_change_everybodys(door: Door) -> None:
    of_her_own = bearer(new_org(), ("contacts:self",), ANA)
    await door.notify.contacts.UpdateNotificationSettings(change(settings(ANA, 5)), metadata=of_her_own)
    error = await refused(
        door.notify.contacts.UpdateNotificationSettings(change(settings(ALL, 5)), metadata=of_her_own)
    )
    assert error.reason_name == "SCOPE_MISSING"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (settings("users/", 5), "user"),
        (settings("users/**", 5), "user"),
        (settings(ANA, -1), "page_budget.pages"),
        (settings(ANA, 1001), "page_budget.pages"),
        (settings(ANA, 5, 0), "page_budget.window"),
        (settings(ANA, 5, 86_401), "page_budget.window"),
        (
            pb.NotificationSettings(user=ANA, page_budget=pb.PageBudget(pages=1, window=Duration(nanos=1))),
            "page_budget.window",
        ),
        (with_quiet(quiet("Mars/Olympus", ("22:00", "07:00"))), "quiet_hours.time_zone"),
        (with_quiet(quiet("", ("22:00", "07:00"))), "quiet_hours.time_zone"),
        (with_quiet(quiet("UTC")), "quiet_hours.time_zone"),
        (with_quiet(quiet("UTC", ("25:00", "07:00"))), "quiet_hours.windows[0].start"),
        (with_quiet(quiet("UTC", ("22:00", "7:00"))), "quiet_hours.windows[0].end"),
        (with_quiet(quiet("UTC", ("22:00", "07:00"), days=0)), "quiet_hours.windows[0].days"),
        (with_quiet(quiet("UTC", ("09:00", "09:00"))), "quiet_hours.windows"),
        (with_quiet(quiet("UTC", *[("22:00", "07:00")] * 15)), "quiet_hours.windows"),
    ],
)
async def test_bad_settings(visitor: Caller, given: pb.NotificationSettings, field: str) -> None:
    error = await refused(visitor.UpdateNotificationSettings(change(given)))
    assert {violation.field for violation in error.fields} == {f"notification_settings.{field}"}
