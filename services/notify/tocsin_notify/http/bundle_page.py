"""The answer page of several pages that were sent as one message: each links to its own answer page, and one button
acknowledges all."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final
from uuid import UUID

from tocsin_notify.app.answers.answer import View
from tocsin_notify.app.pages.stored_jobs import job_of_member
from tocsin_notify.channels.text import severity_in, severity_word
from tocsin_notify.domain.action import Action
from tocsin_notify.http.answer_page import document, said, short, time_words
from tocsin_notify.store.pages.bundles import BundledPage
from tocsin_notify.texts.happened import happened

_MOST: Final = 1000
"""Rows that are shown. Those without an answer come first, so acknowledging what is shown makes room for the rest."""


def bundle_page(view: View, pages: Sequence[BundledPage], links: Mapping[UUID, str], *, problem: str = "") -> str:
    """For the person who opened the link. `links`: the last part of the URL of each page's own answer page."""
    waiting = [page for page in pages if page.stopped is None]
    over = [page for page in pages if page.stopped is not None]
    words = view.words
    parts = [
        f'<p class="who">{words.pages_for} <strong>{escape(short(view.person.user))}</strong></p>',
        f"<h1>{escape(view.job.title)}</h1>",
    ]
    if problem:
        parts.append(f'<p class="wrong" role="alert">{escape(problem)}</p>')
    parts += [f'<p class="said">{escape(line)}</p>' for line in said(view)]
    some = words.page_some_wait.format(waiting=len(waiting), all=len(pages))
    state = some if waiting else words.page_none_waits
    parts.append(f'<div class="state"><p>{escape(state)}</p></div>')
    if waiting and not (view.spent or view.expired):
        parts.append(
            '<form method="post"><button class="acknowledge" name="action" value="'
            f'{Action.ACKNOWLEDGE}">{words.page_acknowledge_all.format(count=len(waiting))}</button></form>'
        )
    parts += [_row(view, page, links[page.id]) for page in (waiting + over)[:_MOST]]
    if len(pages) > _MOST:
        parts.append(f'<p class="fine">{words.page_more.format(count=len(pages) - _MOST)}</p>')
    parts.append(f'<p class="fine">{time_words(view, view.now)}</p>')
    return document(view.job.title, parts, words)


def _row(view: View, page: BundledPage, link: str) -> str:
    job, words = job_of_member(view.person.org_id, page), view.words
    severity = severity_word(job.severity)
    what = f'<a href="{escape(link)}">{escape(job.title)}</a>'
    if page.stopped is None:
        fine = words.page_since.format(time=time_words(view, page.since))
    else:
        fine = happened(words, page.stopped, view.job.time_zone)
    said = f'<span class="severity {severity}">{severity_in(words, job.severity)}</span>'
    return f'<div class="state"><p>{said} {what}</p><p class="fine">{escape(fine)}</p></div>'
