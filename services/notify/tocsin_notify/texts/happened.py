"""What happened to an incident, as people read it, made from the reason why its pages were stopped."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from tocsin_notify.domain.wall_time import shown_in
from tocsin_notify.texts.words import Words

_DONE: Final[dict[str, Callable[[Words], str]]] = {
    "acknowledged": lambda words: words.brief_acknowledged,
    "resolved": lambda words: words.brief_resolved,
    "snoozed": lambda words: words.happened_snoozed,
    "reassigned": lambda words: words.happened_reassigned,
    "passed on": lambda words: words.happened_passed_on,
    "begun again": lambda words: words.happened_restarted,
}
_HOW: Final = r"(?: \(by ([^)]+)\))?(?: (?:in answer to|until) .+)?"
"""By which way it was done. Entries of the timeline may go on after that, those about a snooze by an older escalation with its end;
a message leaves this out."""
_BY: Final = re.compile(f"({'|'.join(_DONE)}) by (.+?){_HOW}")
_SNOOZED: Final = re.compile(rf"snoozed until (\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d) UTC by (.+?){_HOW}")
_MERGED: Final = re.compile(r"merged into (\S+) by (.+)")
_WHOLE: Final[dict[str, Callable[[Words], str]]] = {
    "superseded: the severity was raised and the incident is paged anew": lambda words: words.happened_raised,
    "every page in it was answered": lambda words: words.happened_all,
}


def happened(words: Words, reason: str, time_zone: str = "") -> str:
    """A sentence: `Acknowledged by ana.` Times in it are shown in `time_zone` (`shown_in`). A reason that is not known here,
    such as one of a newer escalation, is shown unchanged."""
    if until := _SNOOZED.fullmatch(reason):
        with suppress(ValueError):  # no time: it is shown as it came
            end = datetime.fromisoformat(until[1]).replace(tzinfo=UTC)
            time = shown_in(end, time_zone).strftime(words.page_time)
            return words.happened_snoozed_until.format(actor=_actor(words, until[2], until[3]), time=time)
    if by := _BY.fullmatch(reason):
        return _DONE[by[1]](words).format(actor=_actor(words, by[2], by[3]))
    if merged := _MERGED.fullmatch(reason):
        return words.happened_merged.format(incident=merged[1], actor=merged[2].removeprefix("users/"))
    if reason in _WHOLE:
        return _WHOLE[reason](words)
    return f"{reason[:1].upper()}{reason[1:]}.".replace("users/", "")


def _actor(words: Words, name: str, via: str | None) -> str:
    """`ana (by telegram)`"""
    actor = name.removeprefix("users/")
    if not via:
        return actor
    channel = getattr(words, f"channel_{via.replace(' ', '_')}", via)
    return f"{actor} ({words.happened_via.format(channel=channel)})"
