"""SilenceService: made, read, changed, ended; what senders and responders see of it; and the bad inputs."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import ALERT_OUTCOME_OPENED, ALERT_OUTCOME_SILENCED, ALERT_STATE_SUPPRESSED
from tocsin.ingest.v1.alert_service_pb2 import GetAlertRequest, ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator
from tocsin.ingest.v1.silence_service_pb2 import (
    SILENCE_STATE_ACTIVE,
    SILENCE_STATE_ENDED,
    SILENCE_STATE_PENDING,
    CreateSilenceRequest,
    ExpireSilenceRequest,
    GetSilenceRequest,
    ListSilencesRequest,
    Silence,
    SilenceRecurrence,
    UpdateSilenceRequest,
)
from tocsin_ingest.app.silences.silences import MOST
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_testkit.busy import within

from tests.store.ingest.support import Ingest, bearer, key, new_org, resolve, trigger

R = ErrorReason
EVERYTHING = LabelMatcher(label="severity", operator=MatchOperator.MATCH_OPERATOR_MATCHES, value=".*")


class Clock:
    """The database's clock, read once for each test; tests leave whole minutes between what they compare."""

    now = datetime.min.replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
async def clock(ingest: Ingest) -> None:
    async with ingest.database.transaction(new_org()) as tx:
        Clock.now = await tx.now()


def after(minutes: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(Clock.now + timedelta(minutes=minutes))
    return stamp


def wanted(minutes: float = 60, **fields: Any) -> Silence:
    fields.setdefault("matchers", [EVERYTHING])
    fields.setdefault("reason", "upgrade of the database")
    return Silence(end_time=after(minutes), **fields)


def recurring(zone: str = "UTC", minutes: float = 60, start_time: Timestamp | None = None, **fields: Any) -> Silence:
    fields.setdefault("until_time", after(60 * 24 * 30))
    return wanted(minutes, start_time=start_time, recurrence=SilenceRecurrence(time_zone=zone, **fields))


async def made(ingest: Ingest, org: str, silence: Silence | None = None, **request: Any) -> Silence:
    call = CreateSilenceRequest(silence=silence or wanted(), **request)
    return (await ingest.silences.CreateSilence(call, metadata=bearer(org))).silence


async def error_of(call: Any) -> TocsinError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_silence_is_made_read_changed_and_ended(ingest: Ingest) -> None:
    org = new_org()
    silence = await made(ingest, org)
    assert (silence.state, silence.author, silence.etag) == (SILENCE_STATE_ACTIVE, "users/ana", "v1")
    assert silence.start_time == silence.create_time
    read = await ingest.silences.GetSilence(GetSilenceRequest(name=silence.name), metadata=bearer(org))
    assert read.silence == silence
    change = Silence(name=silence.name, reason="it takes longer", end_time=after(120), etag="v1")
    changed = (await ingest.silences.UpdateSilence(UpdateSilenceRequest(silence=change), metadata=bearer(org))).silence
    assert (changed.reason, changed.end_time, changed.etag) == (change.reason, change.end_time, "v2")
    assert list(changed.matchers) == [EVERYTHING]
    assert changed.start_time == silence.start_time
    stale = await error_of(ingest.silences.UpdateSilence(UpdateSilenceRequest(silence=change), metadata=bearer(org)))
    assert stale.reason == R.ERROR_REASON_ETAG_MISMATCH
    over = (await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(org))).silence
    assert over.state == SILENCE_STATE_ENDED
    assert over.end_time.ToDatetime() < changed.end_time.ToDatetime()
    for call in (
        ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(org)),
        ingest.silences.UpdateSilence(
            UpdateSilenceRequest(silence=Silence(name=silence.name, reason="x")), metadata=bearer(org)
        ),
    ):
        assert (await error_of(call)).reason == R.ERROR_REASON_ALREADY_ENDED


async def test_it_may_be_said_for_how_long(ingest: Ingest) -> None:
    org, silence = new_org(), wanted(start_time=after(60))
    silence.ClearField("end_time")
    hour = Duration(seconds=3600)
    shown = await made(ingest, org, silence, duration=hour)
    assert shown.end_time.ToDatetime() - shown.start_time.ToDatetime() == timedelta(hours=1)
    for wrong, length in ((wanted(), hour), (silence, Duration()), (silence, Duration(seconds=34560001))):
        error = await error_of(made(ingest, org, wrong, duration=length))
        assert [each.field for each in error.fields] == ["duration"]


async def test_one_that_comes_again_shows_its_next_window(ingest: Ingest) -> None:
    org = new_org()
    again = SilenceRecurrence(time_zone="Asia/Kolkata", until_time=after(60 * 24 * 30))
    silence = await made(ingest, org, wanted(180, start_time=after(60), recurrence=again))
    assert silence.recurrence == again
    assert (silence.state, silence.window_start_time, silence.window_end_time) == (
        SILENCE_STATE_PENDING,
        silence.start_time,
        silence.end_time,
    )
    change = UpdateSilenceRequest(silence=Silence(name=silence.name), update_mask=FieldMask(paths=["recurrence"]))
    once = (await ingest.silences.UpdateSilence(change, metadata=bearer(org))).silence
    assert (once.HasField("recurrence"), once.end_time) == (False, silence.end_time)
    change.silence.recurrence.CopyFrom(again)
    assert (await ingest.silences.UpdateSilence(change, metadata=bearer(org))).silence.recurrence == again
    over = await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(org))
    assert (over.silence.state, over.silence.HasField("window_start_time")) == (SILENCE_STATE_ENDED, False)


async def test_one_that_has_not_begun_is_called_off(ingest: Ingest) -> None:
    org = new_org()
    silence = await made(ingest, org, wanted(120, start_time=after(60)))
    assert silence.state == SILENCE_STATE_PENDING
    moved = Silence(name=silence.name, start_time=after(30))
    moved = (await ingest.silences.UpdateSilence(UpdateSilenceRequest(silence=moved), metadata=bearer(org))).silence
    assert (moved.state, moved.start_time != silence.start_time) == (SILENCE_STATE_PENDING, True)
    over = await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(org))
    assert over.silence.start_time == over.silence.end_time
    assert (await ingest.alerts.SendAlert(trigger("a"), metadata=bearer(org))).outcome == ALERT_OUTCOME_OPENED


async def test_a_repeat_by_its_id_makes_no_second_one(ingest: Ingest) -> None:
    org, request_id, silence = new_org(), str(uuid.uuid4()), wanted()
    first = await made(ingest, org, silence, request_id=request_id)
    assert await made(ingest, org, silence, request_id=request_id) == first


async def test_what_it_holds_back_is_shown_and_pages_within_moments_of_its_end(ingest: Ingest) -> None:
    org = new_org()
    silence = await made(ingest, org)
    held = await ingest.alerts.SendAlert(trigger("a"), metadata=bearer(org))
    assert (held.outcome, held.silence, held.incident) == (ALERT_OUTCOME_SILENCED, silence.name, "")
    again = await ingest.alerts.SendAlert(trigger("a"), metadata=bearer(org))
    assert (again.outcome, again.count) == (ALERT_OUTCOME_SILENCED, 2)
    await ingest.alerts.SendAlert(trigger("b"), metadata=bearer(org))
    assert not (await ingest.alerts.SendAlert(resolve("b"), metadata=bearer(org))).silence
    alert = (await ingest.alerts.GetAlert(GetAlertRequest(name=held.alert), metadata=bearer(org))).alert
    assert (alert.state, alert.silence, alert.silence_end_time) == (
        ALERT_STATE_SUPPRESSED,
        silence.name,
        silence.end_time,
    )
    listed = await ingest.alerts.ListAlerts(ListAlertsRequest(silence=silence.name), metadata=bearer(org))
    assert [each.name for each in listed.alerts] == [held.alert]
    read = (await ingest.silences.GetSilence(GetSilenceRequest(name=silence.name), metadata=bearer(org))).silence
    assert (read.held_alerts, read.silenced_alerts, read.silenced_messages) == (1, 2, 3)
    assert read.etag == silence.etag

    await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(org))
    wanted_alert = GetAlertRequest(name=held.alert)
    async with asyncio.timeout(within(30)):
        while not (await ingest.alerts.GetAlert(wanted_alert, metadata=bearer(org))).alert.incident:
            await asyncio.sleep(0.02)
    assert not (await ingest.alerts.ListAlerts(ListAlertsRequest(silence=silence.name), metadata=bearer(org))).alerts


async def test_lists_go_by_the_end_and_leave_out_what_has_ended(ingest: Ingest) -> None:
    org = new_org()
    names = [(await made(ingest, org, wanted(minutes))).name for minutes in (30, 10, 20)]
    ordered = [names[1], names[2], names[0]]
    first = await ingest.silences.ListSilences(ListSilencesRequest(page_size=2), metadata=bearer(org))
    assert [each.name for each in first.silences] == ordered[:2]
    request = ListSilencesRequest(page_size=2, page_token=first.next_page_token)
    second = await ingest.silences.ListSilences(request, metadata=bearer(org))
    assert ([each.name for each in second.silences], second.next_page_token) == (ordered[2:], "")
    await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=names[0]), metadata=bearer(org))
    now = await ingest.silences.ListSilences(ListSilencesRequest(), metadata=bearer(org))
    assert [each.name for each in now.silences] == ordered[:2]
    whole = await ingest.silences.ListSilences(ListSilencesRequest(include_ended=True), metadata=bearer(org))
    assert [each.name for each in whole.silences] == [names[0], *ordered[:2]]
    strangers = await ingest.silences.ListSilences(ListSilencesRequest(include_ended=True), metadata=bearer(new_org()))
    assert not strangers.silences


@pytest.mark.parametrize(
    ("silence", "field"),
    [
        (lambda: wanted(matchers=[]), "silence"),
        (lambda: wanted(reason=""), "silence.reason"),
        (lambda: Silence(matchers=[EVERYTHING], reason="x"), "silence.end_time"),
        (lambda: wanted(-1), "silence.end_time"),
        (lambda: wanted(60, start_time=after(61)), "silence.end_time"),
        (lambda: wanted(60 * 24 * 401), "silence.end_time"),
        (
            lambda: wanted(matchers=[EVERYTHING, LabelMatcher(label="a", operator=EVERYTHING.operator, value="(")]),
            "silence.matchers[1].value",
        ),
        (lambda: wanted(matchers=[LabelMatcher(label="a", value="b")]), "silence.matchers[0].operator"),
        (lambda: wanted(integration="integrations/nowhere"), "silence.integration"),
        (lambda: recurring("Europe/Nowhere"), "silence.recurrence.time_zone"),
        (lambda: recurring("../UTC"), "silence.recurrence.time_zone"),
        (lambda: recurring(until_time=after(-1)), "silence.recurrence.until_time"),
        (lambda: recurring(until_time=after(60 * 24 * 401)), "silence.recurrence.until_time"),
        (lambda: recurring(minutes=60 * 24 * 7 + 5), "silence.end_time"),
        (lambda: recurring(until_time=after(30), start_time=after(40)), "silence.recurrence"),
        (lambda: recurring(until_time=None), "silence.recurrence.until_time"),
        (lambda: recurring(days=[1, 1]), "silence.recurrence.days"),
        (lambda: recurring(days=[8]), "silence.recurrence.days[0]"),
    ],
)
async def test_a_wrong_silence_is_refused_with_the_field(
    ingest: Ingest, silence: Callable[[], Silence], field: str
) -> None:
    error = await error_of(made(ingest, new_org(), silence()))
    assert [each.field for each in error.fields] == [field]


async def test_a_wrong_change_is_refused_with_the_field(ingest: Ingest) -> None:
    org = new_org()
    name = (await made(ingest, org)).name
    for change, paths, field in (
        (Silence(end_time=after(-5)), [], "silence.end_time"),
        (Silence(start_time=after(5)), [], "silence.start_time"),
        (Silence(), ["start_time"], "silence.start_time"),
        (Silence(), ["matchers"], "silence"),
        (Silence(), ["reason"], "silence.reason"),
    ):
        change.name = name
        request = UpdateSilenceRequest(silence=change, update_mask=FieldMask(paths=paths))
        error = await error_of(ingest.silences.UpdateSilence(request, metadata=bearer(org)))
        assert [each.field for each in error.fields] == [field]


async def test_an_unknown_silence_and_another_tenants(ingest: Ingest) -> None:
    org = new_org()
    name = (await made(ingest, org)).name
    for who, asked in ((org, f"silences/{uuid.uuid4()}"), (new_org(), name)):
        for call in (
            ingest.silences.GetSilence(GetSilenceRequest(name=asked), metadata=bearer(who)),
            ingest.silences.ExpireSilence(ExpireSilenceRequest(name=asked), metadata=bearer(who)),
            ingest.silences.UpdateSilence(
                UpdateSilenceRequest(silence=Silence(name=asked, reason="x")), metadata=bearer(who)
            ),
        ):
            error = await error_of(call)
            assert (error.reason, error.metadata["name"]) == (R.ERROR_REASON_SILENCE_NOT_FOUND, asked)


async def test_a_tenant_may_have_so_many_and_no_more(ingest: Ingest) -> None:
    org = new_org()
    async with ingest.database.transaction(org) as tx:
        await tx.execute(
            """INSERT INTO silences (org_id, id, integration_id, matchers, start_time, end_time, reason, author)
            SELECT $1, gen_random_uuid(), 'other', '', app_now(), app_now() + interval '1 hour', 'x', 'x'
            FROM generate_series(1, $2)""",
            org,
            MOST,
        )
    error = await error_of(made(ingest, org))
    assert (error.reason, error.metadata) == (
        R.ERROR_REASON_LIMIT_REACHED,
        {"limit": "silences", "allowed": str(MOST)},
    )


async def test_a_sender_may_not_silence_itself(ingest: Ingest) -> None:
    _, secret = await ingest.integration(new_org())
    error = await error_of(ingest.silences.CreateSilence(CreateSilenceRequest(silence=wanted()), metadata=key(secret)))
    assert error.metadata == {"scope": "silences:write"}
