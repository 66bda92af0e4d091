"""The outboxes at the board: what waits to be handed over, since when and why, and what was refused for good."""

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote

from tocsin.outbox.v1 import outbox_service_pb2 as pb

from tocsin_notify.http.board_page import PATH, hidden, shown_time
from tocsin_notify.http.board_plots import in_seconds, seconds, standing

LISTS: Final[Mapping[str, str]] = {
    "waiting": "Nothing waits.",
    "blocked": "Nothing is blocked.",
    "dead": "No message is dead.",
}
"""What can be listed, and what an empty list says."""


def outbox_card(service: str, outbox: pb.GetOutboxResponse) -> str:
    """What stands in one outbox: all kinds together, a bar for each, and what is wrong with a kind."""
    backlogs = outbox.backlogs
    destination = next((each.destination for each in backlogs), "")
    waits = [each for each in backlogs if each.waiting]
    oldest = max((in_seconds(each.oldest_age) for each in waits), default=None)
    late = any(each.late_tenants for each in backlogs)
    counts = {
        "waiting": sum(each.waiting for each in backlogs),
        "blocked": sum(each.blocked for each in backlogs),
        "dead": sum(each.dead for each in backlogs),
    }
    wrong = {"waiting": late, "blocked": counts["blocked"] > 0, "dead": counts["dead"] > 0}
    figures = [
        f'<li{_bad(wrong[name])}><a href="{PATH}/{service}/outbox/{name}">{name}</a> <strong>{count}</strong></li>'
        for name, count in counts.items()
    ]
    if oldest is not None:
        figures.append(f"<li{_bad(late)}>oldest <strong>{seconds(oldest)}</strong></li>")
    troubles = [
        _trouble(service, each) for each in backlogs if each.failed or each.blocked or each.dead or each.late_tenants
    ]
    bars = standing("How many wait", {each.kind.replace("_", " "): each.waiting for each in backlogs})
    return (
        f'<section class="card"><h2>{escape(service)}: outbox to {escape(destination)}</h2>'
        f'<ul class="figures">{"".join(figures)}</ul>{"".join(troubles)}<div class="plots">{bars}</div></section>'
    )


def outbox_page(
    service: str,
    shown: str,
    answer: pb.ListWaitingMessagesResponse | pb.ListDeadMessagesResponse,
    csrf: str,
    *,
    writes: bool,
) -> list[str]:
    """One of LISTS."""
    links = " · ".join(
        f"<strong>{each}</strong>" if each == shown else f'<a href="{PATH}/{service}/outbox/{each}">{each}</a>'
        for each in LISTS
    )
    parts = [f"<p>{links}</p>", *(_card(service, each, csrf, writes=writes) for each in answer.messages)]
    if not answer.messages:
        parts.append(f'<p class="fine">{LISTS[shown]}</p>')
    if answer.next_page_token:
        parts.append(f'<p><a href="{PATH}/{service}/outbox/{shown}?page={quote(answer.next_page_token)}">More</a></p>')
    return parts


def message_page(service: str, answer: pb.GetMessageResponse, csrf: str, *, writes: bool) -> list[str]:
    """One message with its payload, and what waits behind it."""
    parts = [_card(service, answer.message, csrf, writes=writes)]
    if answer.waiting_behind:
        since = f" since {shown_time(answer.waiting_since)}" if answer.HasField("waiting_since") else ""
        parts.append(f"<p>{answer.waiting_behind} wait behind it{since}.</p>")
    payload = escape(answer.payload_json) or f"{len(answer.payload)} bytes that cannot be shown"
    parts.append(
        f'<h2>Payload</h2><p class="fine">{escape(answer.payload_type)}</p><section class="card">{payload}</section>'
    )
    return parts


def _trouble(service: str, backlog: pb.OutboxBacklog) -> str:
    said = []
    if backlog.late_tenants:
        whose = "one tenant" if backlog.late_tenants == 1 else f"{backlog.late_tenants} tenants"
        said.append(f"late for {whose}, the oldest for {seconds(in_seconds(backlog.oldest_age))}")
    if backlog.failed:
        said.append(f"{backlog.failed} were tried and not accepted: {backlog.error}")
    if backlog.blocked:
        first = backlog.oldest_blocked
        said.append(
            f"{backlog.blocked} blocked, the first behind {first.ordering_key} of {first.org_id}: {first.reason}"
        )
    if backlog.dead:
        said.append(f"{backlog.dead} dead")
    return f'<p class="wrong"><strong>{escape(backlog.kind)}</strong>: {escape("; ".join(said))}</p>'


def _card(service: str, message: pb.OutboxMessage, csrf: str, *, writes: bool) -> str:
    dead = message.state == pb.OUTBOX_MESSAGE_STATE_DEAD
    rows = {
        "tenant": message.org_id,
        "key": message.ordering_key,
        "made": _time_of(message, "create_time"),
        "tried next": _time_of(message, "due_time"),
        "died": _time_of(message, "dead_time"),
        "attempts": str(message.attempts or ""),
        "error": message.reason,
        "blocked": "The receiver lacks an earlier message of its key." if message.blocked else "",
        "substitute": "It is a shortened substitute; the original is dead." if message.substituted else "",
        "sent instead": message.substituted_by,
    }
    shown = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value)
    number = message.name.removeprefix("outboxMessages/")
    forms = _forms(service, message.name, csrf) if dead and writes else ""
    return (
        f'<section class="card"><a href="{PATH}/{service}/outbox/{quote(number)}">{escape(message.name)}</a> '
        f"{escape(message.kind)}<dl>{shown}</dl>{forms}</section>"
    )


def _forms(service: str, name: str, csrf: str) -> str:
    fields = (
        f'{hidden(csrf)}<input type="hidden" name="service" value="{escape(service)}">'
        f'<input type="hidden" name="name" value="{escape(name)}">'
    )
    return (
        f'<form class="act" method="post" action="{PATH}/act">{fields}<button name="act" value="redrive">Redrive</button></form>'
        f'<form class="act" method="post" action="{PATH}/act">{fields}<label>Why <input name="reason" required maxlength="500">'
        f'</label><button class="remove" name="act" value="discard">Discard</button></form>'
    )


def _bad(wrong: bool) -> str:
    return ' class="bad"' if wrong else ""


def _time_of(message: pb.OutboxMessage, field: str) -> str:
    return shown_time(getattr(message, field)) if message.HasField(field) else ""  # type: ignore[arg-type]
