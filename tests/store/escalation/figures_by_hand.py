"""What figures should say, added up from the timelines one entry after the other."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin_escalation.domain.figures import Group, IncidentFigures, Keys, PageFigures, Question
from tocsin_escalation.store.incidents.timeline import Entry


def counted(rows: Sequence[PageFigures]) -> dict[Keys, tuple[int, ...]]:
    return {
        row.keys: (row.pages, row.acknowledged, row.interruptions, row.business_hours, row.sleep_hours) for row in rows
    }


def keys_of(question: Question, quarter: datetime, policy: str, team: str, user: str = "") -> Keys:
    local = quarter.astimezone(ZoneInfo(question.zone))
    monday = local.date() - timedelta(days=local.weekday())
    of: dict[Group, tuple[str, object]] = {
        Group.DAY: ("first_day", local.date()),
        Group.WEEK: ("first_day", monday),
        Group.MONTH: ("first_day", local.date().replace(day=1)),
        Group.HOUR_OF_DAY: ("hour_of_day", local.hour),
        Group.DAY_OF_WEEK: ("day_of_week", local.isoweekday()),
        Group.POLICY: ("policy", policy),
        Group.TEAM: ("team", team),
        Group.USER: ("user", user),
    }
    return Keys(**dict(of[group] for group in question.groups))  # type: ignore[arg-type]


def quarter_of(time: datetime) -> datetime:
    return time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)


Made = dict[UUID, tuple[str, str, int, datetime]]
Timelines = dict[UUID, list[Entry]]


def by_hand(made: Made, timelines: Timelines, question: Question) -> list[IncidentFigures]:
    """In the order of the groups."""
    found: dict[Keys, list[int]] = defaultdict(lambda: [0] * 6)
    for incident, (policy, team, _, opened) in made.items():
        row = found[keys_of(question, quarter_of(opened), policy, team)]
        row[0] += 1
        for place, kind, timed in ((1, "acknowledged", True), (3, "resolved", True), (5, "exhausted", False)):
            first = next((entry for entry in timelines[incident] if entry.kind == kind), None)
            if first is not None:
                row[place] += 1
                if timed:
                    row[place + 1] += (first.create_time - opened) // timedelta(milliseconds=1)
    rows = [IncidentFigures(keys, *row) for keys, row in found.items()]
    return sorted(rows, key=lambda row: _place(row.keys, question.groups))


def _place(keys: Keys, groups: Sequence[Group]) -> list[object]:
    fields = {Group.DAY: "first_day", Group.WEEK: "first_day", Group.MONTH: "first_day"}
    return [getattr(keys, fields.get(group, group.value)) for group in groups]


def pages_by_hand(made: Made, timelines: Timelines, question: Question) -> dict[Keys, tuple[int, ...]]:
    """Pages, acknowledges, interruptions, and of these those in working hours and at night."""
    paged, acknowledged = Counter[Keys](), Counter[Keys]()
    quarters: dict[Keys, set[datetime]] = defaultdict(set)
    for incident, (policy, team, *_) in made.items():
        for entry in timelines[incident]:
            quarter = quarter_of(entry.create_time)
            if not question.start <= quarter < question.end:
                continue
            for user in entry.paged_users:
                keys = keys_of(question, quarter, policy, team, user)
                paged[keys] += 1
                quarters[keys].add(quarter)
            if entry.kind == "acknowledged":
                acknowledged[keys_of(question, quarter, policy, team, entry.actor.removeprefix("users/"))] += 1
    walls = {keys: [each.astimezone(ZoneInfo(question.zone)) for each in found] for keys, found in quarters.items()}
    return {
        keys: (
            paged[keys],
            acknowledged[keys],
            len(quarters[keys]),
            sum(wall.weekday() < 5 and 8 <= wall.hour <= 17 for wall in walls.get(keys, ())),
            sum(not 7 <= wall.hour <= 21 for wall in walls.get(keys, ())),
        )
        for keys in paged | acknowledged
    }
