"""The board as HTML: dark, for desks and phones, whole without a script. With one it stays live.

Every text from outside passes `escape`. Style and script are named by their hashes in the Content-Security-Policy, so
no other style or script in the page is applied or run.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from typing import Final
from urllib.parse import quote

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1 import task_pb2
from tocsin.queue.v1.queue_options_pb2 import QueueOptions

from tocsin_notify.http.board_plots import in_seconds, plots, seconds, standing

PATH: Final = "/board"
STATES: Final[Mapping[str, int]] = {
    "waiting": task_pb2.TASK_STATE_WAITING,
    "active": task_pb2.TASK_STATE_ACTIVE,
    "delayed": task_pb2.TASK_STATE_DELAYED,
    "dead": task_pb2.TASK_STATE_DEAD,
    "completed": task_pb2.TASK_STATE_COMPLETED,
    "failed": task_pb2.TASK_STATE_FAILED,
}
_ACTS: Final[Mapping[int, Sequence[str]]] = {
    task_pb2.TASK_STATE_WAITING: ("remove",),
    task_pb2.TASK_STATE_DELAYED: ("promote", "retry", "remove"),
    task_pb2.TASK_STATE_DEAD: ("retry", "remove"),
}
_STYLE: Final = """
:root{color-scheme:dark}
*{box-sizing:border-box}
body{margin:0 auto;padding:16px;max-width:72rem;background:#0d1015;color:#e6e9ee;
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
header{display:flex;flex-wrap:wrap;gap:.6rem 1rem;align-items:center;justify-content:space-between}
h1{font-size:1.3rem;margin:.3rem 0}h2{font-size:1.1rem;margin:1.4rem 0 .5rem}
a{color:#8ab4ff}
.fine{color:#9aa4b2;font-size:.9rem}
.card{background:#171c24;border-radius:.6rem;padding:.8rem 1rem;margin:.8rem 0}
.figures{display:flex;flex-wrap:wrap;gap:.5rem;list-style:none;padding:0;margin:.5rem 0}
.figures li{background:#222a35;border-radius:.5rem;padding:.35rem .7rem}
.figures strong{font-size:1.1rem}
.figures li.bad{background:#7d1f24}
.card h2{margin-top:0}
.said{background:#14301f;border-radius:.6rem;padding:.6rem .9rem}
.wrong{background:#3a2412;border-radius:.6rem;padding:.6rem .9rem}
form{display:inline}form.card{display:block}
.act{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem;margin:.5rem 0}
button{border:0;border-radius:.5rem;padding:.5rem .8rem;font:inherit;color:#fff;background:#33404f;min-height:2.5rem}
button.remove{background:#7d1f24}
label{margin-right:.5rem}
input[type=password],#org_id{display:block;width:100%;padding:.6rem;margin:.4rem 0 .8rem;border-radius:.5rem;
border:1px solid #3a4553;background:#0d1015;color:inherit;font:inherit}
input[name=reason]{padding:.5rem;border-radius:.5rem;max-width:100%;
border:1px solid #3a4553;background:#0d1015;color:inherit;font:inherit}
svg{display:block;width:100%;height:auto;max-width:32rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem 2rem;margin:.8rem 0}
figure{margin:0}.rule{stroke:#3a4553}
.done{fill:#3fa66a}.broken{fill:#d05a5f}.half{fill:#4f86d9}.most{fill:#2b466f}.axis{fill:#9aa4b2;font-size:11px}.word{fill:#e6e9ee;font-size:12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.4rem 0}dd{margin:0}dt{color:#9aa4b2}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}}
"""
_SCRIPT: Final = """
const live=new EventSource('/board/events');let busy=false;
live.onmessage=async()=>{if(busy||document.activeElement.closest('form'))return;busy=true;
try{const answer=await fetch(location.href,{headers:{'X-Live':'1'}});
if(answer.redirected){location.href=answer.url;return}
const page=new DOMParser().parseFromString(await answer.text(),'text/html');
document.querySelector('main').replaceWith(page.querySelector('main'))}finally{busy=false}};
"""


_ASKS: Final = (
    "Operator's token (org *, scopes queues:read, and outbox:read for outboxes; "
    "queues:write and outbox:write to change something)"
)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def document(title: str, main: Sequence[str], *, csrf: str = "", live: bool = True) -> str:
    """A whole page. `main` is HTML, `title` is text. `csrf`: of the session; without one the visitor is not logged in.
    `live`: it follows what happens."""
    head = tail = refresh = ""
    if csrf:
        head = f'<form method="post" action="{PATH}/logout">{hidden(csrf)}<button>Log out</button></form>'
    if csrf and live:
        tail = f"<script>{_SCRIPT}</script>"
        refresh = '<noscript><meta http-equiv="refresh" content="10"></noscript>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(title) or 'Queues'}</title><style>{_STYLE}</style></head><body>"
        f'<header><h1><a href="{PATH}">Queues</a> {escape(title)}</h1>{head}</header>'
        f"<main>{''.join(main)}</main>{tail}</body></html>"
    )


def login_page(problem: str = "", *, oidc: str = "") -> str:
    """Asks for a token. `oidc`: where the login provider is asked instead."""
    return document(
        "Log in",
        [
            f'<p class="wrong" role="alert">{escape(problem)}</p>' if problem else "",
            f'<form class="card" method="post" action="{PATH}/login"><label for="token">{_ASKS}</label><input id="token" '
            'name="token" type="password" autocomplete="off" required autofocus><button>Log in</button></form>',
            f'<p class="card"><a href="{oidc}">Log in with your organisation\'s account</a></p>' if oidc else "",
        ],
    )


def logged_in_page() -> str:
    """Leads on to the board by itself."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" '
        f'content="0;url={PATH}"><title>Logged in</title><style>{_STYLE}</style></head><body><main>'
        f'<p><a href="{PATH}">Logged in: go on to the board</a></p></main></body></html>'
    )


def note(said: str, *, wrong: bool) -> str:
    """The result of the last action."""
    return f'<p class="{"wrong" if wrong else "said"}" role="status">{escape(said)}</p>' if said else ""


def overview(queue: pb.Queue, activity: pb.GetQueueActivityResponse, csrf: str, *, writes: bool) -> str:
    """One queue: figures, options, pause, plots."""
    service = queue.name.removeprefix("queues/")
    figures = [
        f'<li><a href="{PATH}/{service}/{state}">{state}</a> <strong>{count}</strong></li>'
        for state, count in (
            ("waiting", str(queue.waiting + queue.overdue)),
            ("active", str(queue.active)),
            ("delayed", str(queue.delayed)),
            ("dead", str(queue.dead)),
            ("completed", str(queue.completed)),
            ("failed", str(queue.failed)),
        )
    ]
    states = ['<li class="bad">paused</li>'] if queue.paused else []
    if not queue.redis_available:
        states.append('<li class="bad">Redis is away</li>')
    button = ""
    if writes:
        button = act_form("resume" if queue.paused else "pause", queue.name, service, csrf)
        button += f'<p><a href="{PATH}/{service}/drain">Drain: see first what would go</a></p>'
    bars = {
        "waiting": queue.waiting + queue.overdue,
        "active": queue.active,
        "delayed": queue.delayed,
        "dead": queue.dead,
    }
    oldest = queue.oldest_age.ToTimedelta().total_seconds()
    return (
        f'<section class="card"><h2>{escape(queue.name)}</h2><ul class="figures">{"".join(states)}{"".join(figures)}</ul>'
        f'<p class="fine">Oldest due task: {oldest:.1f} s. {_spread("Late by", activity.lateness)} '
        f"{_spread('An attempt took', activity.duration)}{' Of this replica only.' if activity.partial else ''}</p>"
        f'<p class="fine">{escape(_options(queue.options))}</p>'
        f'<div class="plots">{standing("How many stand where", bars)}{plots(activity.minutes)}</div>{button}</section>'
    )


def task_list(service: str, state: str, answer: pb.ListTasksResponse, csrf: str, *, writes: bool) -> list[str]:
    """The tasks in one state."""
    links = " · ".join(
        f"<strong>{each}</strong>" if each == state else f'<a href="{PATH}/{service}/{each}">{each}</a>'
        for each in STATES
    )
    parts = [f"<p>{links}</p>"]
    if answer.partial:
        parts.append('<p class="wrong">Redis is away: these are the tasks of one replica.</p>')
    parts += [task_card(service, task, csrf, writes=writes) for task in answer.tasks]
    if not answer.tasks:
        parts.append(f'<p class="fine">Nothing is {state}.</p>')
    if answer.next_page_token:
        parts.append(f'<p><a href="{PATH}/{service}/{state}?page={quote(answer.next_page_token)}">More</a></p>')
    return parts


def task_card(service: str, task: task_pb2.Task, csrf: str, *, writes: bool) -> str:
    """One task."""
    key = task.name.rpartition("/")[2]
    rows = {
        "tenant": task.org_id,
        "user": task.user,
        "about": task.about,
        "due": shown_time(task.due_time) if task.HasField("due_time") else "",
        "made": shown_time(task.create_time) if task.HasField("create_time") else "",
        "ended": shown_time(task.finish_time) if task.HasField("finish_time") else "",
        "took": seconds(task.duration.ToTimedelta().total_seconds()) if task.HasField("duration") else "",
        "late by": seconds(task.lateness.ToTimedelta().total_seconds()) if task.HasField("lateness") else "",
        "attempts": str(task.attempts or ""),
        "error": task.error,
    }
    shown = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value)
    acts = _ACTS.get(task.state, ()) if writes else ()
    failed = task.attempts or task.state == task_pb2.TASK_STATE_DEAD
    forms = " ".join(act_form(act, task.name, service, csrf) for act in acts if act != "retry" or failed)
    return (
        f'<section class="card"><a href="{PATH}/{service}/task/{quote(key)}">{escape(key)}</a> {escape(task.summary)}'
        f"<dl>{shown}</dl>{forms}</section>"
    )


def task_page(service: str, answer: pb.GetTaskResponse, csrf: str, *, writes: bool) -> list[str]:
    """One task with its history, and who waits for it."""
    parts = [task_card(service, answer.task, csrf, writes=writes)]
    if answer.losses:
        lost = "".join(f"<li>{escape(loss.text)}</li>" for loss in answer.losses)
        parts.append(f"<h2>If it were removed</h2><ul>{lost}</ul>")
    told = "".join(f"<dt>{shown_time(each.time)}</dt><dd>{escape(each.text)}</dd>" for each in answer.history)
    parts.append(f"<h2>History</h2><dl>{told}</dl>" if told else '<p class="fine">Nothing has happened to it yet.</p>')
    return parts


def act_form(act: str, name: str, service: str, csrf: str) -> str:
    """A button. An act that would leave a user unpaged needs the box beside it."""
    needs = act == "remove" or (act == "promote" and "/timers." in name)
    force = '<label><input type="checkbox" name="force" value="1"> although somebody stays unpaged</label>'
    return (
        f'<form class="act" method="post" action="{PATH}/act">{hidden(csrf)}'
        f'<input type="hidden" name="service" value="{escape(service)}"><input type="hidden" name="name" value="{escape(name)}">'
        f'<button class="{act}" name="act" value="{act}">{act.capitalize()}</button>{force if needs else ""}</form>'
    )


def shown_time(stamp: Timestamp) -> str:
    """For people."""
    return f"{stamp.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _options(options: QueueOptions) -> str:
    said = [f"Options: {options.attempts} attempts", f"{options.concurrency} at a time"]
    if options.HasField("rate_per_minute"):
        said.append(f"{options.rate_per_minute} a minute for each tenant")
    back_off = f"back-off {seconds(in_seconds(options.backoff))} to {seconds(in_seconds(options.most_backoff))}"
    kept = f"{options.keep_completed} completed and {options.keep_failed} failed ones are kept."
    return ", ".join([*said, back_off, kept])


def hidden(csrf: str) -> str:
    """What proves that a form is of this session."""
    return f'<input type="hidden" name="csrf" value="{escape(csrf)}">'


def _spread(words: str, spread: task_pb2.Spread) -> str:
    if not spread.count:
        return ""
    half, most = in_seconds(spread.p50), in_seconds(spread.p99)
    return f"{words} {seconds(half)} (half of {spread.count}), {seconds(most)} (99 of 100)."
