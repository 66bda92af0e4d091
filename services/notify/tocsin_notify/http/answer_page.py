"""The answer page as HTML: one file, no script, dark, with buttons for a thumb.

Every text from outside passes `escape`. The style is named by its hash in the Content-Security-Policy, so nothing else that
might ever stand in the page is applied or run.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from tocsin.escalation.v1 import incident_pb2 as pb

from tocsin_notify.app.answer import View
from tocsin_notify.channels.text import severity_word
from tocsin_notify.domain.action import Action

_STYLE: Final = """
:root{color-scheme:dark}
*{box-sizing:border-box}
body{margin:0 auto;padding:16px;max-width:34rem;background:#0d1015;color:#e6e9ee;
font:17px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.25;margin:.4rem 0 .8rem}
p{margin:.4rem 0}
a{color:#8ab4ff}
.who,.fine{color:#9aa4b2;font-size:.92rem}
.severity{display:inline-block;padding:.1rem .5rem;border-radius:.35rem;background:#2a313c;font-weight:600}
.critical,.error{background:#7d1f24;color:#fff}
.state{background:#171c24;border-radius:.6rem;padding:.7rem .9rem;margin:1rem 0}
.said{background:#14301f;border-radius:.6rem;padding:.7rem .9rem;margin:1rem 0}
.wrong{background:#3a2412;border-radius:.6rem;padding:.7rem .9rem;margin:1rem 0}
form{margin:.7rem 0}
button{display:block;width:100%;min-height:3.5rem;border:0;border-radius:.7rem;font:inherit;font-weight:600;
font-size:1.1rem;color:#fff;background:#33404f}
button.acknowledge{background:#1f7a43;min-height:4.5rem;font-size:1.25rem}
textarea{display:block;width:100%;min-height:4.5rem;margin-bottom:.5rem;padding:.6rem;border-radius:.6rem;border:1px solid #3a4553;
background:#0d1015;color:inherit;font:inherit}
label{display:block;margin:1.2rem 0 .3rem;color:#9aa4b2}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_DONE: Final = {
    Action.ACKNOWLEDGE: "acknowledged it",
    Action.ESCALATE: "passed it to the next level",
    Action.RESOLVE: "resolved it",
    Action.NOTE: "added a note",
}
_BUTTONS: Final = {
    Action.ACKNOWLEDGE: "Acknowledge: I am on it",
    Action.ESCALATE: "I can't: page the next level",
    Action.RESOLVE: "Resolve: it is over",
}
_OPEN: Final = (Action.ACKNOWLEDGE, Action.ESCALATE, Action.RESOLVE)
_ALLOWED: Final = {
    pb.INCIDENT_STATE_ACKNOWLEDGED: (Action.RESOLVE, Action.ESCALATE),
    pb.INCIDENT_STATE_RESOLVED: (),
}


def answer_page(view: View, *, problem: str = "") -> str:
    """The page for the person who opened the link. `problem`: why what they just asked for was not done."""
    incident = view.incident
    title = incident.title if incident is not None else view.job.title
    severity = severity_word(incident.severity if incident is not None else view.job.severity)
    source = incident.source if incident is not None else view.job.source
    parts = [
        f'<p class="who">Page for <strong>{escape(short(view.person.user))}</strong></p>',
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="severity {severity}">{severity}</span> {escape(source)}</p>',
    ]
    if problem:
        parts.append(f'<p class="wrong" role="alert">{escape(problem)}</p>')
    parts += [f'<p class="said">{escape(line)}</p>' for line in said(view)]
    parts.append(f'<div class="state">{"".join(f"<p>{escape(line)}</p>" for line in _state(view))}</div>')
    parts += _forms(view)
    parts.append(f'<p class="fine">{escape(view.person.incident)}<br>{time_words(view.now)}</p>')
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page. `parts` is HTML, `title` is text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def message_page(title: str, text: str) -> str:
    """A page that says one thing."""
    return document(title, [f"<h1>{escape(title)}</h1>", f"<p>{escape(text)}</p>"])


def said(view: View) -> list[str]:
    """What was done by links of this page: by this one, if it is spent, or by those before it."""
    who = short(view.person.user)
    done = [use for use in view.uses if use.done]
    lines = [f"{who} {_DONE[Action(use.action)]} at {time_words(use.use_time)}." for use in done]
    if view.spent:
        lines.append("This link was used, so it only shows how things stand.")
    elif view.expired:
        lines.append("This link is too old to answer with; it only shows how things stand.")
    return lines


def _state(view: View) -> list[str]:
    incident = view.incident
    if incident is None:
        return ["How the incident stands cannot be told at the moment. The buttons work as soon as it can."]
    on_it = ", ".join(map(short, incident.assignees))
    match incident.state:
        case pb.INCIDENT_STATE_RESOLVED:
            return [
                f"Resolved by {short(incident.resolved_by)} at {time_words(incident.resolve_time.ToDatetime(UTC))}."
            ]
        case pb.INCIDENT_STATE_ACKNOWLEDGED:
            at = time_words(incident.acknowledge_time.ToDatetime(UTC))
            lines = [f"Acknowledged by {short(incident.acknowledged_by)} at {at}."]
            what, until = "Paged again", ", unless it is resolved before"
        case pb.INCIDENT_STATE_SNOOZED:
            lines = ["Snoozed: nobody is paged."]
            what, until = "Paged again", ""
        case pb.INCIDENT_STATE_EXHAUSTED:
            return [f"Nobody has answered, and no level is left. Paged last: {on_it or 'nobody'}."]
        case _:
            lines = [f"Nobody has answered yet. Paged at level {incident.level}: {on_it or 'nobody'}."]
            what, until = "Next step", ", unless somebody answers"
    if incident.HasField("next_step_time"):
        lines.append(f"{what} at {time_words(incident.next_step_time.ToDatetime(UTC))}{until}.")
    return lines


def _forms(view: View) -> list[str]:
    if view.spent or view.expired:
        return []
    state = view.incident.state if view.incident is not None else pb.INCIDENT_STATE_UNSPECIFIED
    actions = _ALLOWED.get(state, _OPEN)
    forms = [
        f'<form method="post"><button class="{action}" name="action" value="{action}">{_BUTTONS[action]}</button></form>'
        for action in actions
    ]
    forms.append(
        '<form method="post"><label for="text">Note for the timeline</label>'
        '<textarea id="text" name="text" maxlength="4096" required></textarea>'
        '<button name="action" value="note">Add the note</button></form>'
    )
    return forms


def short(user: str) -> str:
    return user.removeprefix("users/")


def time_words(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M} UTC on {moment.astimezone(UTC):%d %b}"
