"""Which pages are made, and what becomes of those that are open."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from tocsin_escalation.domain.decision import (
    Command,
    Decision,
    Note,
    NoteKind,
    Page,
    PageType,
    StopPages,
    page_id,
)
from tocsin_escalation.domain.deferring import urgent
from tocsin_escalation.domain.escalation import Escalation, PageState, Reached, State, Timer, changed


@dataclass(frozen=True, slots=True)
class Moment:
    """When pages were planned, and when they are decided: later, if something was late."""

    planned: datetime
    now: datetime
    lateness_ms: int = 0


def page_users(
    run: Escalation, users: tuple[str, ...], level: int, moment: Moment, why: str = "", timer: Timer | None = None
) -> Decision:
    """Page these users as `level`. `why`: why they are on call. `timer`: the new timer of the level, instead of the run's."""
    type_ = PageType.ESCALATION if run.paged_users else PageType.NEW_INCIDENT
    high, how = urgent(run, moment.now)
    pages = tuple(
        Page(
            page_id(run, PageType.ESCALATION, level, user),
            user,
            type_,
            level,
            run.repeat,
            run.generation,
            moment.planned,
            urgent=high,
        )
        for user in users
    )
    known = run.paged_users + tuple(user for user in users if user not in run.paged_users)
    following = changed(
        run,
        state=State.TRIGGERED,
        level=level,
        assignees=users,
        paged_users=known,
        pages=open_pages(run) | {page.id: PageState.OPEN for page in pages},
        reached=run.reached if run.reached is Reached.SOMEBODY else Reached.UNKNOWN,
        timer=timer or run.timer,
    )
    names = ", ".join(f"users/{user}" for user in users)
    message = with_reason(f"level {level}: paging {names}{how}", why)
    note = Note(NoteKind.LEVEL_PAGED, "", message, level, pages, moment.lateness_ms)
    return Decision(following, pages, (note,))


def asks(actor: str, decision: Decision) -> Decision:
    """Tell the users whom the decision pages that `actor` asks for them. If `actor` is one of them, their own page names nobody."""
    commands = [
        replace(each, actor=actor) if isinstance(each, Page) and f"users/{each.user}" != actor else each
        for each in decision.commands
    ]
    return replace(decision, commands=tuple(commands))


def with_reason(message: str, why: str) -> str:
    """Of an entry; `why` may be empty."""
    return f"{message}; {why}" if why else message


def status_updates(run: Escalation, type_: PageType, actor: str, now: datetime) -> tuple[Command, ...]:
    """Tell all users who were paged, except the one who did it, that the incident is acknowledged or resolved."""
    if run.policy is None or not run.policy.status_updates:
        return ()
    users = [user for user in run.paged_users if f"users/{user}" != actor]
    return tuple(
        Page(page_id(run, type_, 0, user), user, type_, 0, run.repeat, run.generation, now, actor) for user in users
    )


def next_generation(run: Escalation) -> Escalation:
    """Timers of the former generation, and cancelled pages, have no effect any more."""
    return replace(run, generation=run.generation + 1, added_alerts_noted=False)


def halt(run: Escalation) -> Escalation:
    """The next generation of a run whose pages are stopped: their outcomes are not waited for any more."""
    return replace(next_generation(run), pages={})


def without_own_pages(run: Escalation, actor: str) -> tuple[Escalation, tuple[StopPages, ...]]:
    """The next generation of a run that `actor` passes on. Their own pages are stopped: they have answered. Those of others go
    on, as when a level passes: nobody has it in hand yet.

    Stopped pages stay open here, since a page does not say whose it is, until notify says that it stopped them (`PageStopped`).
    """
    user = actor.removeprefix("users/")
    if not actor.startswith("users/") or user not in run.paged_users:
        return next_generation(run), ()
    return next_generation(run), (StopPages(run.generation, f"passed on by {actor}", user=user),)


def open_pages(run: Escalation) -> dict[UUID, PageState]:
    """The pages whose outcome is not known yet."""
    return {page: state for page, state in run.pages.items() if state is PageState.OPEN}


def judge_reached(run: Escalation) -> Escalation:
    """An exhausted escalation without an open page, none of whose pages was accepted, has reached no one."""
    if run.state is not State.EXHAUSTED or run.reached is Reached.SOMEBODY or open_pages(run):
        return run
    return replace(run, reached=Reached.NOBODY)
