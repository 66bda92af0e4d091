"""The answer page as HTML: one file, no script, dark, with buttons for a thumb.

Every text from outside passes `escape`. The style is named by its hash in the Content-Security-Policy, so no other
style or script in the page is applied or run.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from tocsin.escalation.v1 import incident_pb2 as pb
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_ESCALATION, NOTIFICATION_TYPE_NEW_INCIDENT

from tocsin_notify.app.answers.answer import View
from tocsin_notify.channels.text import links_of, one_line, severity_in, severity_word
from tocsin_notify.domain.action import SNOOZES, Action, minutes_of
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.wall_time import shown_in
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_STYLE: Final = """
:root{color-scheme:dark}
*{box-sizing:border-box}
[hidden]{display:none!important}
body{margin:0 auto;padding:16px;max-width:34rem;background:#0d1015;color:#e6e9ee;
font:17px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.25;margin:.4rem 0 .8rem}
p{margin:.4rem 0}
a{color:#8ab4ff}
.links a{display:inline-block;padding:.6rem .9rem .6rem 0}
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
.snooze div{display:flex;gap:.5rem}
.snooze button{font-size:1rem}
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
_PAGES: Final = (NOTIFICATION_TYPE_NEW_INCIDENT, NOTIFICATION_TYPE_ESCALATION)
_MOST_LINKS: Final = 5
"""More would move the buttons out of sight."""
_LINK_LENGTH: Final = 80
"""Characters of a link's text, for the same reason: it may be its address."""
_OPEN: Final = (Action.ACKNOWLEDGE, Action.ESCALATE, Action.SNOOZE, Action.RESOLVE)
_ALLOWED: Final = {
    pb.INCIDENT_STATE_ACKNOWLEDGED: (Action.RESOLVE, Action.ESCALATE, Action.SNOOZE),
    pb.INCIDENT_STATE_RESOLVED: (),
}


def answer_page(view: View, *, problem: str = "", device: str = "") -> str:
    """The page for the person who opened the link. `problem`: why the last action was not done.

    `device`: the URL where they can add this browser; empty if they cannot.
    """
    incident, words = view.incident, view.words
    title = incident.title if incident is not None else view.job.title
    severity = incident.severity if incident is not None else view.job.severity
    source = incident.source if incident is not None else view.job.source
    parts = [
        f'<p class="who">{words.page_for} <strong>{escape(short(view.person.user))}</strong></p>',
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="severity {severity_word(severity)}">{severity_in(words, severity)}</span> {escape(source)}</p>',
    ]
    if view.job.actor and view.job.type in _PAGES:
        asked = words.why_asked.format(actor=short(view.job.actor))
        parts.append(f"<p>{escape(asked)}.</p>")
    parts += _links(view)
    if problem:
        parts.append(f'<p class="wrong" role="alert">{escape(problem)}</p>')
    parts += [f'<p class="said">{escape(line)}</p>' for line in said(view)]
    parts.append(f'<div class="state">{"".join(f"<p>{escape(line)}</p>" for line in _state(view))}</div>')
    parts += _forms(view)
    if device:
        parts.append(f'<p><a href="{device}">{words.device_offer}</a></p>')
    parts.append(f'<p class="fine">{escape(view.person.incident)}<br>{time_words(view, view.now)}</p>')
    return document(title, parts, words)


def document(title: str, parts: Sequence[str], words: Words) -> str:
    """A whole page. `parts` is HTML, `title` is text."""
    return (
        f'<!doctype html><html lang="{words.page_language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def message_page(title: str, text: str) -> str:
    """A page that says one thing, to a visitor who is not known."""
    return document(title, [f"<h1>{escape(title)}</h1>", f"<p>{escape(text)}</p>"], words_of(LANGUAGES[0]))


def said(view: View) -> list[str]:
    """The actions that were done by links of this page: by this one, if it is used, or by earlier ones."""
    who, words = short(view.person.user), view.words
    did = {
        Action.ACKNOWLEDGE: words.page_did_acknowledge,
        Action.SNOOZE: words.page_did_snooze,
        Action.ESCALATE: words.page_did_escalate,
        Action.RESOLVE: words.page_did_resolve,
        Action.NOTE: words.page_did_note,
    }
    # This version has no words for an action of a newer one.
    done = [use for use in view.uses if use.done and use.action in did]
    lines = [
        (
            words.page_pressed_acknowledge
            if use.action == Action.ACKNOWLEDGE and _is_with_another(view)
            else did[Action(use.action)]
        ).format(who=who, time=time_words(view, use.use_time))
        for use in done
    ]
    if view.spent:
        lines.append(words.page_used)
    elif view.expired:
        lines.append(words.page_expired)
    return lines


def _links(view: View) -> list[str]:
    """To the runbook, the graph and so on, as the sender of the alert named them. They open beside the page, whose buttons stay."""
    known = view.incident
    links = links_of(view.job) if known is None else [(link.text, link.href) for link in known.links]
    # Any other scheme could run a script, or call a number.
    safe = [(text, href) for text, href in links if href.lower().startswith(("https://", "http://"))]
    opened = [
        f'<a href="{escape(href)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(one_line(text, _LINK_LENGTH) or one_line(href, _LINK_LENGTH))}</a>"
        for text, href in safe[:_MOST_LINKS]
    ]
    return [f'<p class="links">{" ".join(opened)}</p>'] if opened else []


def _is_with_another(view: View) -> bool:
    """Whether another user has acknowledged it: before this one, or since. Which of the two is not known here: escalation's clock
    is another one."""
    incident = view.acted_on
    if incident is None or incident.state != pb.INCIDENT_STATE_ACKNOWLEDGED:
        return False
    return incident.acknowledged_by != view.person.user


def _state(view: View) -> list[str]:
    incident, words = view.acted_on, view.words
    if incident is None:
        return [words.page_state_unknown]
    if view.into is not None:
        return [words.page_merged.format(title=incident.title), *_state_of(incident, view)]
    return _state_of(incident, view)


def _state_of(incident: pb.Incident, view: View) -> list[str]:
    words = view.words
    on_it = ", ".join(map(short, incident.assignees)) or words.page_nobody
    match incident.state:
        case pb.INCIDENT_STATE_RESOLVED:
            at = time_words(view, incident.resolve_time.ToDatetime(UTC))
            return [words.page_resolved.format(who=short(incident.resolved_by), time=at)]
        case pb.INCIDENT_STATE_ACKNOWLEDGED:
            at = time_words(view, incident.acknowledge_time.ToDatetime(UTC))
            lines = [words.page_acknowledged.format(who=short(incident.acknowledged_by), time=at)]
            following = words.page_again_unless_resolved
        case pb.INCIDENT_STATE_SNOOZED:
            lines, following = [words.page_snoozed], words.page_again
        case pb.INCIDENT_STATE_EXHAUSTED:
            return [words.page_exhausted.format(who=on_it)]
        case _:
            lines, following = [words.page_waiting.format(level=incident.level, who=on_it)], words.page_next
    if incident.HasField("next_step_time"):
        lines.append(following.format(time=time_words(view, incident.next_step_time.ToDatetime(UTC))))
    return lines


def _forms(view: View) -> list[str]:
    if view.spent or view.expired:
        return []
    words = view.words
    labels = {
        Action.ACKNOWLEDGE: words.page_acknowledge,
        Action.ESCALATE: words.page_escalate,
        Action.RESOLVE: words.page_resolve,
    }
    state = view.acted_on.state if view.acted_on is not None else pb.INCIDENT_STATE_UNSPECIFIED
    forms = [
        _snooze(words)
        if action is Action.SNOOZE
        else f'<form method="post"><button class="{action}" name="action" value="{action}">{labels[action]}</button></form>'
        for action in _ALLOWED.get(state, _OPEN)
    ]
    forms.append(
        f'<form method="post"><label for="text">{words.page_note_label}</label>'
        '<textarea id="text" name="text" maxlength="4096" required></textarea>'
        f'<button name="action" value="note">{words.page_note}</button></form>'
    )
    return forms


def _snooze(words: Words) -> str:
    buttons = "".join(
        f'<button name="minutes" value="{minutes_of(snooze)}">{_length(words, snooze)}</button>' for snooze in SNOOZES
    )
    return (
        f'<form method="post" class="snooze"><input type="hidden" name="action" value="snooze">'
        f'<p class="fine">{words.page_snooze}</p><div>{buttons}</div></form>'
    )


def _length(words: Words, snooze: timedelta) -> str:
    minutes = minutes_of(snooze)
    return words.page_minutes.format(count=minutes) if minutes < 60 else words.page_hours.format(count=minutes // 60)


def short(user: str) -> str:
    """The id of a user, as people know it."""
    return user.removeprefix("users/")


def time_words(view: View, moment: datetime) -> str:
    """A moment as the page tells it, in the time zone of its user."""
    return shown_in(moment, view.job.time_zone).strftime(view.words.page_time)
