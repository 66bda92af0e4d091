"""Draining a queue at the board: what would go is shown first, and only below that is the button."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1.task_pb2 import TaskCount

from tocsin_notify.http.board_page import PATH, hidden

LONGEST_ORG: Final = 128


def drain_page(service: str, chosen: Mapping[str, str], would: pb.DrainQueueResponse | None, csrf: str) -> list[str]:
    """The form; with `would`, what a drain as `chosen` would do now, and its button."""
    parts = [_form(service, chosen)]
    if would is None:
        return parts
    parts.append(f'<section class="card"><h2>What would happen now</h2><p>{escape(counted(would))}</p>')
    if would.losses:
        lost = "".join(f"<li>{escape(loss.text)}</li>" for loss in would.losses)
        parts.append(f"<p>These users would not be paged:</p><ul>{lost}</ul>")
    going = sum(each.count for each in would.removed)
    if going:
        fields = "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in {"service": service, "name": f"queues/{service}", **chosen}.items()
        )
        parts.append(
            f'<form class="act" method="post" action="{PATH}/act">{hidden(csrf)}{fields}'
            f'<button class="remove" name="act" value="drain">Remove {going} {"task" if going == 1 else "tasks"}</button></form>'
        )
    return [*parts, "</section>"]


def choice(given: Mapping[str, str]) -> dict[str, str]:
    """Which tasks, of what a form or a URL says."""
    chosen = {name: "1" for name in ("delayed", "force") if given.get(name) == "1"}
    if org_id := given.get("org_id", "").strip()[:LONGEST_ORG]:
        chosen["org_id"] = org_id
    return chosen


def counted(answer: pb.DrainQueueResponse) -> str:
    """What goes and what stays, in words."""
    more = " There are more than one drain looks at." if answer.more else ""
    return f"Removed: {_counts(answer.removed)}. Kept: {_counts(answer.kept)}.{more}"


def _counts(counts: Iterable[TaskCount]) -> str:
    return ", ".join(f"{each.kind} ({each.count})" for each in counts if each.count) or "nothing"


def _form(service: str, chosen: Mapping[str, str]) -> str:
    def box(name: str, words: str) -> str:
        checked = " checked" if name in chosen else ""
        return f'<label><input type="checkbox" name="{name}" value="1"{checked}> {words}</label>'

    return (
        f'<form class="card" method="get" action="{PATH}/{service}/drain"><label for="org_id">Only of this tenant (empty: of all)'
        f'</label><input id="org_id" name="org_id" maxlength="{LONGEST_ORG}" value="{escape(chosen.get("org_id", ""))}">'
        f"<p>{box('delayed', 'also what is due later')} {box('force', 'also tasks without which a user is not paged')}</p>"
        '<button name="look" value="1">See what would go</button></form>'
    )
