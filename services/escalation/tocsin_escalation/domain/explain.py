"""Why a person was or was not paged for an incident: statements in words, each with the names of the records that prove it.

Everything is read from records. The timeline shows the decisions, schedules show who was on call then, notify shows the outcomes
of the pages. The rules that decide, simulated further, show what comes next.
"""

from collections.abc import Iterator
from typing import Final

from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.explanation import (
    PAGING,
    About,
    Case,
    Explanation,
    Happened,
    Notification,
    Statement,
    Verdict,
)
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.model import Segment, Source
from tocsin_escalation.domain.schedules.words import COLLECTIONS, name_of, tell

STARTS: Final = (
    NoteKind.LEVEL_PAGED,
    NoteKind.LEVEL_SKIPPED,
    NoteKind.LEVEL_HELD,
    NoteKind.LEVEL_PASSED,
    NoteKind.LEVEL_DEFERRED,
)
"""Entries of levels that begin, or do not."""
_OUTCOMES: Final = (
    NoteKind.PAGE_UNREACHABLE,
    NoteKind.PAGE_FAILED,
    NoteKind.PAGE_DELAYED,
    NoteKind.PAGE_SENT,
    NoteKind.PAGE_DELIVERED,
)
_TAKEN: Final = (NoteKind.PAGE_SENT, NoteKind.PAGE_DELIVERED)
_ENDED: Final = (NoteKind.PAGE_UNREACHABLE, NoteKind.PAGE_FAILED)
_STOPS: Final = (
    NoteKind.ACKNOWLEDGED,
    NoteKind.SNOOZED,
    NoteKind.RESOLVED,
    NoteKind.EXHAUSTED,
    NoteKind.REASSIGNED,
    NoteKind.RESTARTED,
    NoteKind.NOBODY_REACHED,
)
_MOST_UPCOMING: Final = 3


def explain(case: Case) -> Explanation:
    """All statements: the decisions, their results, and what comes next."""
    statements = [*_user(case), *_rule(case)]
    for entry in case.happened:
        statements += _entry(case, entry)
    statements += [*_contact(case), *_deliveries(case), *_next(case)]
    verdict = _verdict(case)
    return Explanation(
        verdict, _summary(case, verdict, statements), tuple(statements), case.plan.next_page_of(case.user)
    )


def _user(case: Case) -> Iterator[Statement]:
    if not case.known:
        yield Statement(
            About.USER, f"{case.name} does not exist, or exists no more: nobody can page them", (case.name,)
        )
    elif case.disabled:
        yield Statement(About.USER, f"{case.name} is disabled: disabled users are not paged", (case.name,))


def _rule(case: Case) -> Iterator[Statement]:
    policy = case.run.policy
    if policy is None:
        evidence = tuple(entry.name for entry in case.happened if entry.kind is NoteKind.POLICY_FALLBACK)
        yield Statement(About.RULE, "the incident has no policy to run on: nobody is paged", evidence)
        return
    proof = (f"policies/{policy.id}", *(entry.name for entry in case.happened if entry.id == case.chosen))
    places = [
        f"level {number} ({', '.join(map(str, ways))}{', one in turn' if policy.levels[number - 1].in_turn else ''})"
        for number in range(1, len(policy.levels) + 1)
        if (ways := _ways(case, number))
    ]
    if policy.fallback_target is not None and _names(case, policy.fallback_target):
        places.append(f"its fallback target ({policy.fallback_target})")
    where = f"at {' and '.join(places)}" if places else "at no level: not by name, not in a team, not in a schedule"
    text = f"the incident runs on policies/{policy.id} as it was when the run began, which names {case.name} {where}"
    yield Statement(About.RULE, text, proof)


def _ways(case: Case, level: int) -> list[Target]:
    """The targets of a level through which it may page the person."""
    levels = case.run.policy.levels if case.run.policy else ()
    targets = levels[level - 1].targets if 0 < level <= len(levels) else ()
    return [target for target in targets if _names(case, target)]


def _names(case: Case, target: Target) -> bool:
    named = {
        TargetKind.USER: target.id == case.user,
        TargetKind.TEAM: case.user in case.members.get(target.id, ()),
        TargetKind.SCHEDULE: case.user in case.line_ups.get(target.id, ()),
    }
    return named.get(target.kind, False)


def _entry(case: Case, entry: Happened) -> Iterator[Statement]:
    mine = [page for user, page in zip(entry.paged_users, entry.pages, strict=False) if user == case.user]
    if entry.kind in PAGING and mine:
        proof = (entry.name, *(f"pages/{page}" for page in mine))
        yield Statement(About.PAGED, entry.message, proof, entry.time, entry.level)
        yield from _on_call(case, entry)
    elif entry.kind in _OUTCOMES and any(page in case.pages for page in entry.pages):
        proof = (entry.name, *(f"pages/{page}" for page in entry.pages))
        yield Statement(About.OUTCOME, entry.message, proof, entry.time, entry.level)
    elif entry.kind in STARTS and not _left(case, entry):
        yield from _not_paged(case, entry)
    elif entry.kind in (*_STOPS, *STARTS):
        yield Statement(About.STOPPED, entry.message, (entry.name,), entry.time, entry.level)
    elif entry.kind in (NoteKind.POLICY_FALLBACK, NoteKind.HANDED_ON):
        yield Statement(About.RULE, entry.message, (entry.name,), entry.time)


def _left(case: Case, entry: Happened) -> bool:
    """Whether it is a level that had begun before, and was left because none of its users could be reached."""
    if entry.kind is not NoteKind.LEVEL_SKIPPED:
        return False
    place = (entry.generation, entry.repeat, entry.level)
    return any(
        (each.generation, each.repeat, each.level) == place and each.kind is NoteKind.LEVEL_PAGED and each.id < entry.id
        for each in case.happened
    )


def _not_paged(case: Case, entry: Happened) -> Iterator[Statement]:
    handed = _handed(case, entry)
    ways = _ways(case, entry.level) if entry.id > case.chosen and not handed else []
    reasons, proof = [], [entry.name]
    for target in ways:
        segment = case.segments.get((target.id, entry.id)) if target.kind is TargetKind.SCHEDULE else None
        proof.append(str(target))
        if entry.kind is NoteKind.LEVEL_PAGED and _in_turn(case, entry.level) and _is_there(case, segment):
            whose = ", ".join(f"users/{user}" for user in entry.paged_users)
            reasons.append(f"{target} names {case.name}, and the level pages one in turn: it was the turn of {whose}")
        elif entry.kind is NoteKind.LEVEL_PASSED and _is_there(case, segment):
            reasons.append(f"{target} names {case.name}, and the condition of the level did not hold")
        elif entry.kind is NoteKind.LEVEL_DEFERRED and _is_there(case, segment):
            reasons.append(f"{target} names {case.name}, and nobody is paged before then")
        elif segment is None:
            reasons.append(f"{target} names {case.name} now, and they could not be paged then")
        elif case.user in segment.people:
            reasons.append(f"as it is written down now, {tell(target.id, segment)}; it was otherwise then")
        else:
            told = tell(target.id, segment)
            # The entry says already who was on call.
            reasons.append(f"not on call in {target} then" if told in entry.message else told)
    if handed:
        reasons.append(f"the incident was {handed.message}")
        proof.append(handed.name)
    elif not ways:
        named = "the policy of that time" if entry.id < case.chosen else f"level {entry.level}"
        reasons.append(f"not among the targets of {named}")
    why = "; ".join(reasons)
    yield Statement(About.NOT_PAGED, f"{entry.message}. Not {case.name}: {why}", tuple(proof), entry.time, entry.level)
    if ways:
        yield from _on_call(case, entry)


def _handed(case: Case, entry: Happened) -> Happened | None:
    """The entry by which a user handed the incident to others, if it is they whom this one pages, or of whom nobody was found."""
    before = [each for each in case.happened if each.id < entry.id and each.kind in (NoteKind.REASSIGNED, *STARTS)]
    last = before[-1] if before else None
    begun = entry.kind in (NoteKind.LEVEL_PAGED, NoteKind.LEVEL_SKIPPED)
    if not begun or last is None or last.kind is not NoteKind.REASSIGNED:
        return None
    return None if last.to_policy else last


def _in_turn(case: Case, level: int) -> bool:
    return case.run.policy is not None and case.run.policy.levels[level - 1].in_turn


def _is_there(case: Case, segment: Segment | None) -> bool:
    """Whether the person is behind a target at that time: of a schedule only users who are on call."""
    return segment is None or case.user in segment.people


def _on_call(case: Case, entry: Happened) -> Iterator[Statement]:
    """Who was on call in the schedules through which the level may page the person, why, and absences."""
    if entry.id < case.chosen:
        return
    for target in _ways(case, entry.level):
        segment = case.segments.get((target.id, entry.id)) if target.kind is TargetKind.SCHEDULE else None
        if segment is None:
            continue
        yield Statement(About.SCHEDULE, tell(target.id, segment), (str(target),), entry.time, entry.level)
        for source in segment.sources:
            if source.kind in COLLECTIONS:
                yield Statement(About.OVERRIDE, _put_there(target, source), (name_of(source),), entry.time, entry.level)
    for away in case.absences:
        if away.start <= entry.time < away.end:
            reason = f" ({away.reason})" if away.reason else ""
            text = f"{case.name} was away until {away.end:%Y-%m-%d %H:%M} UTC{reason}"
            yield Statement(About.ABSENCE, text, (f"absences/{away.id}",), entry.time, entry.level)


def _put_there(target: Target, source: Source) -> str:
    people = ", ".join(f"users/{user}" for user in source.people) or "nobody"
    instead = f" instead of users/{source.instead_of}" if source.instead_of else ""
    return f"{name_of(source)} of {target} has {people} on call{instead}"


def _contact(case: Case) -> Iterator[Statement]:
    if case.contact is None:
        return
    if case.contact.unreachable:
        text = f"no page can be sent to {case.name} at present: {case.contact.unreachable}"
    elif case.contact.rules:
        text = f"the contact rules of {case.name} are now: {'; '.join(case.contact.rules)}"
    else:
        text = f"{case.name} has no contact rules: a page goes to every usable contact method at once"
    yield Statement(About.CONTACT, text, (case.name,))
    if case.contact.quiet_hours:
        text = f"pages of low urgency wait for the end of the quiet hours of {case.name}: {case.contact.quiet_hours}"
        yield Statement(About.CONTACT, text, (case.name,))


def _deliveries(case: Case) -> Iterator[Statement]:
    for notification in case.contact.notifications if case.contact else ():
        proof = (notification.name, notification.page)
        yield Statement(About.NOTIFICATION, notification.message, proof, notification.time, notification.level)
        for tried in notification.tries:
            yield Statement(About.ATTEMPT, tried.message, (notification.name,), tried.time, notification.level)


def _next(case: Case) -> Iterator[Statement]:
    run = case.run
    proof = (f"policies/{run.policy.id}",) if run.policy else (f"incidents/{run.incident_id}",)
    for step in case.plan.steps:
        if any(page.user == case.user for page in step.note.pages):
            text = f"if nobody answers, {case.name} is paged at {step.time:%Y-%m-%d %H:%M:%S} UTC: {step.note.message}"
            yield Statement(About.NEXT, text, proof, step.time, step.note.level)
            return
    upcoming = [step for step in case.plan.steps if step.note.kind in STARTS and _ways(case, step.note.level)]
    for step in upcoming[:_MOST_UPCOMING]:
        text = f"if nobody answers, at {step.time:%Y-%m-%d %H:%M:%S} UTC, without {case.name}: {step.note.message}"
        yield Statement(About.NEXT, text, proof, step.time, step.note.level)
    yield Statement(About.NEXT, f"as things stand {case.name} is not paged any more: {_why_never(run)}", proof)


def _why_never(run: Escalation) -> str:
    match run.state:
        case State.RESOLVED:
            return f"the incident was resolved by {run.resolved_by}"
        case State.ACKNOWLEDGED if run.timer is None:
            return f"it is acknowledged by {run.acknowledged_by}, until a person unacknowledges it"
        case State.MERGED:
            return f"the incident is merged into incidents/{run.merged_into}; ask about that one"
        case State.EXHAUSTED:
            return "the incident is exhausted: no level and no repeat is left"
        case _:
            return "no step that follows pages them"


def _verdict(case: Case) -> Verdict:
    pages = case.pages
    if not pages:
        return Verdict.NOT_PAGED
    told = [entry for entry in case.happened if entry.kind in _OUTCOMES and any(page in pages for page in entry.pages)]
    if any(entry.kind in _TAKEN for entry in told) or any(each.sent for each in _of_pages(case)):
        return Verdict.PAGED
    ended = {page for entry in told if entry.kind in _ENDED for page in entry.pages}
    if ended >= pages.keys():
        return Verdict.NOT_REACHED
    newest = max(entry.generation for page, entry in pages.items() if page not in ended)
    stopped = newest < case.run.generation or case.run.state is State.RESOLVED
    return Verdict.STOPPED if stopped else Verdict.WAITING


def _of_pages(case: Case) -> list[Notification]:
    names = {f"pages/{page}" for page in case.pages}
    return [each for each in (case.contact.notifications if case.contact else ()) if each.page in names]


def _summary(case: Case, verdict: Verdict, statements: list[Statement]) -> str:
    def last(*abouts: About) -> str:
        found = [each.message for each in statements if each.about in abouts]
        return found[-1] if found else ""

    match verdict:
        case Verdict.PAGED:
            return f"{case.name} was paged: {last(About.OUTCOME) or last(About.PAGED)}"
        case Verdict.NOT_REACHED:
            return f"{case.name} was not reached: {last(About.OUTCOME)}"
        case Verdict.STOPPED:
            return f"the page to {case.name} was stopped before a provider took it: {last(About.STOPPED)}"
        case Verdict.WAITING:
            return f"a page to {case.name} is under way: {last(About.PAGED)}"
        case Verdict.NOT_PAGED:
            why = last(About.USER)
            if not why and not any(_ways(case, number) for number in _numbers(case)):
                why = last(About.RULE)
            named = [each for each in statements if each.about is About.NOT_PAGED and _ways(case, each.level)]
            if not why and named:
                why = named[-1].message
            return f"{case.name} was not paged: {why or last(About.STOPPED) or last(About.NEXT)}"


def _numbers(case: Case) -> range:
    return range(1, len(case.run.policy.levels) + 1 if case.run.policy else 1)
