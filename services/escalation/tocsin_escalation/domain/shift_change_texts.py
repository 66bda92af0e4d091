"""What messages about changes of shifts and about swaps say, in plain text."""

from collections.abc import Callable, Sequence
from typing import Final

from tocsin_escalation.domain.schedules.model import Segment, SourceKind
from tocsin_escalation.domain.shift_changes import Change, Stretch
from tocsin_escalation.domain.shift_notice_texts import MOST_LISTED, Names, Text, wall

SegmentAt = Callable[[str, int], Segment | None]
"""Who is on call in a schedule at an instant; None: the schedule is not there any more."""

_REASONS: Final = {
    SourceKind.OVERRIDE: "an override",
    SourceKind.SWAP: "a swap",
    SourceKind.FIXED_PERIOD: "a fixed period",
    SourceKind.STAND_IN: "standing in for a user who is away",
    SourceKind.CALENDAR: "an imported calendar",
}


def change_text(change: Change, user: str, at: SegmentAt, names: Names, zone: str) -> Text:
    """What became the user's, and what they lost, with who has it now."""
    lines = [f"Now yours: {_stretch(each, names, zone)}{_why(each, user, at)}" for each in change.gained]
    lines += [f"No longer yours: {_stretch(each, names, zone)}; {_who(each, user, at, names)}" for each in change.lost]
    if len(lines) > MOST_LISTED:
        lines[MOST_LISTED:] = [f"… and {len(lines) - MOST_LISTED} more"]
    listed = sorted(map(names.schedule, change.schedules))
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return Text(
        f"Your shifts have changed: {', '.join(listed[:3])}{more}", "\n".join([*lines, f"Times are those of {zone}."])
    )


def offer_text(giver: str, offered: Stretch, in_return: Stretch | None, reason: str, name: str, zone: str) -> Text:
    """An offer to the one who reads it. `offered` and `in_return` bear what people call the schedule."""
    lines = [_span(offered, zone)]
    if in_return is not None:
        lines.append(f"In return for your time on call: {_span(in_return, zone)}")
    if reason:
        lines.append(f"Reason: {reason}")
    lines += [f"Accept or decline it as {name}.", f"Times are those of {zone}."]
    return Text(f"{giver} offers you time on call: {offered.schedule}", "\n".join(lines))


def answer_text(who: Sequence[str], offered: Stretch, zone: str, *, accepted: bool) -> Text:
    """What became of an offer, to the one who made it."""
    listed = ", ".join(who)
    title = f"{listed} takes your time on call" if accepted else f"Nobody takes your time on call; declined by {listed}"
    return Text(f"{title}: {offered.schedule}", f"{_span(offered, zone)}\nTimes are those of {zone}.")


def _stretch(stretch: Stretch, names: Names, zone: str) -> str:
    return f"{names.schedule(stretch.schedule)}, {_span(stretch, zone)}"


def _span(stretch: Stretch, zone: str) -> str:
    return f"{wall(stretch.start, zone)} to {wall(stretch.end, zone)}"


def _why(stretch: Stretch, user: str, at: SegmentAt) -> str:
    segment = at(stretch.schedule, stretch.start)
    kinds = {source.kind for source in segment.sources if user in source.people} if segment else set()
    reasons = [text for kind, text in _REASONS.items() if kind in kinds]
    return f" ({reasons[0]})" if reasons else ""


def _who(stretch: Stretch, user: str, at: SegmentAt, names: Names) -> str:
    """At the beginning of what was lost."""
    segment = at(stretch.schedule, stretch.start)
    if segment is None:
        return "the schedule is deleted"
    away = "you are away, and " if user in segment.away else ""
    kinds = {source.kind for source in segment.sources}
    reasons = [text for kind, text in _REASONS.items() if kind in kinds and kind is not SourceKind.STAND_IN]
    why = f" ({reasons[0]})" if reasons else ""
    who = f"on call is {names.people(segment.people)}" if segment.people else "nobody is on call"
    return f"{away}{who}{why}"
