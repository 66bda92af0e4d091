"""Why a user was or was not paged: each statement is true and names its evidence."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.events import (
    Acknowledged,
    OutcomeKind,
    Reassigned,
    Resolved,
    RespondersAdded,
)
from tocsin_escalation.domain.explain import explain
from tocsin_escalation.domain.explanation import (
    About,
    Away,
    Case,
    Contact,
    Explanation,
    Happened,
    Notification,
    Tried,
    Verdict,
)
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, GapChoice, Policy, Target
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule, Scope
from tocsin_escalation.domain.schedules.questions import standing, users_of
from tocsin_escalation.domain.simulate import simulate

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, THREE, Story, level, policy, schedule, team, user
from tests.unit.escalation.schedules.writing import DAILY, layer, override, utc

ILL = override("2026-03-01 10:00", "2026-03-01 18:00", "ben", "ana", Scope.PERSON)
ROTA = Schedule("web", "UTC", (layer("ana", "ben", turn=DAILY, start="2026-03-01 00:00"),))
SWAPPED = replace(ROTA, overrides=(ILL,))


class Told:
    """A story, explained for one of its people."""

    def __init__(self, run_on: Policy | None, rota: Schedule = ROTA, cause: str = "") -> None:
        self.rota = rota
        self.story = Story(run_on, self._people(NOON), cause)
        self.happened: list[Happened] = []
        self._note()

    def _people(self, time: datetime) -> Directory:
        return replace(EVERYBODY, schedules={"web": on_call_at(self.rota, minute_of(time))})

    def _note(self) -> None:
        for note in self.story.decisions[-1].notes:
            pages = [page.id for page in note.pages] if note.page is None else [note.page]
            run = self.story.run
            self.happened.append(
                Happened(
                    len(self.happened) + 1,
                    self.story.now,
                    note.kind,
                    note.message,
                    note.level,
                    run.repeat,
                    run.generation,
                    tuple(page.user for page in note.pages),
                    tuple(pages),
                )
            )

    def then(self, event: object, minutes: float = 0) -> "Told":
        self.story.passes(minutes)
        self.story.take(event)  # type: ignore[arg-type]
        self._note()
        return self

    def times_out(self, minutes: float = 5) -> "Told":
        self.story.passes(minutes)
        self.story.timer_fires()
        self._note()
        return self

    def page_ends(self, who: str, kind: OutcomeKind, **fields: str) -> "Told":
        self.story.page_ends(who, kind, **fields)
        self._note()
        return self

    def why(self, who: str, contact: Contact | None = None, **fields: object) -> Explanation:
        run = self.story.run
        case = Case(
            run=run,
            user=who,
            known=who in EVERYBODY.users,
            disabled=False,
            happened=tuple(self.happened),
            members=EVERYBODY.teams or {},
            line_ups={"web": frozenset(users_of(self.rota))},
            segments={("web", each.id): standing(self.rota, minute_of(each.time)).segment for each in self.happened},
            absences=(),
            plan=simulate(run, None, self.story.now, self._people, {}),
            contact=contact,
        )
        found = explain(replace(case, **fields))  # type: ignore[arg-type]
        entries = {each.name for each in self.happened}
        for statement in found.statements:
            assert statement.evidence, f"nothing proves: {statement.message}"
            named = [each for each in statement.evidence if each.startswith("timelineEntries/")]
            assert set(named) <= entries
            assert named or statement.about not in (About.PAGED, About.NOT_PAGED, About.OUTCOME, About.STOPPED)
        return found


def said(found: Explanation, about: About) -> list[str]:
    return [statement.message for statement in found.statements if statement.about is about]


def test_a_user_who_was_paged_by_name_and_whose_page_a_provider_accepted() -> None:
    told = Told(THREE).page_ends("ana", OutcomeKind.SENT, channel="email")
    found = told.why("ana")
    assert (found.verdict, found.summary) == (Verdict.PAGED, "users/ana was paged: email to ana accepted")
    assert said(found, About.RULE) == [
        "the incident runs on policies/night as it was when the run began, which names users/ana at level 1 (users/ana)"
    ]
    [paged] = [each for each in found.statements if each.about is About.PAGED]
    assert paged.evidence == ("timelineEntries/2", f"pages/{told.story.page_of('ana')}")


def test_a_user_whose_level_has_not_begun_hears_when_it_would() -> None:
    found = Told(THREE).why("dora")
    assert (found.verdict, found.next_page) == (Verdict.NOT_PAGED, NOON + 10 * MINUTE)
    assert said(found, About.NEXT) == [
        "if nobody answers, users/dora is paged at 2026-03-01 12:10:00 UTC: level 3: paging users/dora"
    ]
    assert "is paged at 2026-03-01 12:10:00 UTC" in found.summary


def test_a_user_whose_level_never_began_because_another_acknowledged() -> None:
    found = Told(THREE).then(Acknowledged("users/ana"), 2).why("dora")
    assert found.verdict is Verdict.NOT_PAGED
    assert found.summary == "users/dora was not paged: acknowledged by users/ana"
    assert found.next_page is None
    assert "until a person unacknowledges it" in said(found, About.NEXT)[-1]


def test_a_user_whom_the_policy_does_not_name() -> None:
    found = Told(policy(level(user("ana")), level(team("core")))).why("dora")
    assert found.verdict is Verdict.NOT_PAGED
    assert "names users/dora at no level: not by name, not in a team, not in a schedule" in found.summary


def test_a_user_of_a_schedule_who_was_not_on_call() -> None:
    found = Told(policy(level(schedule("web")))).why("ben")
    assert found.verdict is Verdict.NOT_PAGED
    assert "schedules/web has users/ana on call until 2026-03-02 00:00 UTC (turn 0 of layer layer)" in found.summary
    assert found.summary.endswith(". Not users/ben: not on call in schedules/web then"), "who was is said once"
    [not_paged] = [each for each in found.statements if each.about is About.NOT_PAGED]
    assert not_paged.evidence == ("timelineEntries/2", "schedules/web")


def test_an_override_is_why_one_was_paged_and_the_other_was_not() -> None:
    told = Told(policy(level(schedule("web"))), SWAPPED)
    for who, verdict in (("ben", Verdict.WAITING), ("ana", Verdict.NOT_PAGED)):
        found = told.why(who)
        assert found.verdict is verdict
        [swap] = [each for each in found.statements if each.about is About.OVERRIDE]
        assert swap.message == "overrides/override-0 of schedules/web has users/ben on call instead of users/ana"
        assert swap.evidence == ("overrides/override-0",)


def test_a_user_who_was_away() -> None:
    away = replace(ROTA, absences={"ana": ((utc("2026-03-01 00:00"), utc("2026-03-03 00:00")),)}, stand_in=True)
    absence = Away(UUID(int=7), NOON - 60 * MINUTE, NOON + 60 * MINUTE, "ill")
    found = Told(policy(level(schedule("web"))), away).why("ana", absences=(absence,))
    assert said(found, About.ABSENCE) == ["users/ana was away until 2026-03-01 13:00 UTC (ill)"]
    assert "stands in at turn 0 of layer layer instead of users/ana; away: users/ana" in found.summary


def test_pages_that_failed_were_stopped_or_wait() -> None:
    unreachable = Told(THREE).page_ends("ana", OutcomeKind.UNREACHABLE, reason="no verified contact method")
    found = unreachable.why("ana")
    assert (found.verdict, found.summary) == (
        Verdict.NOT_REACHED,
        "users/ana was not reached: ana could not be reached: no verified contact method",
    )
    assert said(found, About.STOPPED) == ["level 1 left at once: nobody of it can be reached (ana)"]
    stopped = Told(THREE).then(Resolved("integrations/prom")).why("ana")
    assert stopped.verdict is Verdict.STOPPED
    assert stopped.summary.endswith("resolved by integrations/prom")
    assert Told(THREE).why("ana").verdict is Verdict.WAITING


def test_what_notify_knows_is_told_attempt_by_attempt() -> None:
    told = Told(THREE)
    page = f"pages/{told.story.page_of('ana')}"
    tried = Tried(NOON, "attempt 1 by sms: sent; receipt at 2026-03-01 12:00:09 UTC: delivered")
    sms = Notification("notifications/1", page, f"sms for {page}: sent", NOON, 1, sent=True, tries=(tried,))
    found = told.why("ana", Contact((sms,), rules=("high urgency: sms at once",)))
    assert found.verdict is Verdict.PAGED, "the outcome may still be on its way to the timeline"
    assert said(found, About.ATTEMPT) == [tried.message]
    assert said(found, About.CONTACT) == ["the contact rules of users/ana are now: high urgency: sms at once"]
    asleep = told.why("ana", Contact(quiet_hours="Mon 22:00 to 07:00 in UTC"))
    assert "pages of low urgency wait for the end of the quiet hours of users/ana: Mon 22:00 to 07:00 in UTC" in [
        each.message for each in asleep.statements
    ]
    nobody = told.why("ana", Contact(unreachable="no verified contact method"))
    assert said(nobody, About.CONTACT) == ["no page can be sent to users/ana at present: no verified contact method"]


def test_unknown_and_disabled_people() -> None:
    assert "does not exist" in Told(policy(level(user("gone")), level(user("ana")))).why("gone").summary
    assert "is disabled" in Told(THREE).why("cem", disabled=True).summary


def test_without_a_policy_no_user_is_paged() -> None:
    found = Told(None, cause="no policy was asked for, and the tenant has no fallback policy").why("ana")
    assert found.verdict is Verdict.NOT_PAGED
    assert found.summary.endswith("no policy was asked for, and the tenant has no fallback policy")
    assert said(found, About.RULE)[0] == "the incident has no policy to run on: nobody is paged"


def test_a_policy_that_came_later_does_not_explain_what_was_before() -> None:
    told = Told(THREE).then(Reassigned("users/ana", policy=policy(level(user("dora")))), 1)
    found = told.why("dora")
    assert found.verdict is Verdict.WAITING
    assert said(found, About.NOT_PAGED)[0].endswith("Not users/dora: not among the targets of the policy of that time")


def test_whoever_hands_an_incident_over_is_told_that_this_is_why_they_were_not_paged_again() -> None:
    """The policy goes on to name them, and what came before the hand-over stays explained by it."""
    told = Told(policy(level(schedule("web")), level(user("cem")))).times_out().then(Acknowledged("users/cem"), 1)
    told.then(Reassigned("users/cem", targets=(user("dora"),)), 1)
    found = told.why("cem")
    assert said(found, About.NOT_PAGED)[-1] == (
        "level 2: paging users/dora. Not users/cem: the incident was handed to users/dora by users/cem"
    )
    assert "not among the targets of level 1" in said(found, About.NOT_PAGED)[0]
    assert "not on call in schedules/web then" in told.why("ben").summary, (
        "a hand-over to users leaves the policy as it is"
    )


def test_a_hand_over_to_a_team_without_users_is_not_explained_as_a_level_of_the_policy() -> None:
    told = Told(THREE).then(Acknowledged("users/ana"), 1)
    told.then(Reassigned("users/ana", targets=(team("empty"),)), 1)
    handed, level_1 = said(told.why("dora"), About.NOT_PAGED)[-2:]
    assert handed == (
        "teams/empty resolves to nobody; the policy goes on. Not users/dora: the incident was handed to teams/empty by users/ana"
    )
    assert level_1 == "level 1: paging users/ana. Not users/dora: not among the targets of level 1"
    assert "now, and they could not be paged then" not in " ".join(said(told.why("ana"), About.NOT_PAGED))


def test_a_user_who_was_asked_for_is_told_by_whom() -> None:
    found = Told(THREE).then(RespondersAdded("users/ana", (user("dora"),))).why("dora")
    assert found.verdict is Verdict.WAITING
    assert said(found, About.PAGED) == ["users/ana asks for users/dora"]


@pytest.mark.parametrize("choice", GapChoice)
def test_a_gap_is_why(choice: GapChoice) -> None:
    later = replace(ROTA, layers=(layer("ana", "ben", turn=DAILY, start="2026-03-02 00:00"),))
    targets: tuple[Target, ...] = (schedule("web"),)
    found = Told(policy(level(*targets), on_gap=choice, fallback_target=user("dora")), later).why("ana")
    assert found.verdict is Verdict.NOT_PAGED
    assert "has a gap" in found.summary


def test_the_turn_of_another_user_is_why() -> None:
    run_on = policy(replace(level(team("core"), schedule("web"), minutes=10), in_turn=True, turn_timeout=3 * MINUTE))
    told = Told(run_on)
    found = told.why("cem")
    assert found.verdict is Verdict.NOT_PAGED
    assert said(found, About.RULE)[0].endswith("level 1 (teams/core, one in turn)")
    assert "teams/core names users/cem, and the level pages one in turn: it was the turn of users/ben" in found.summary
    assert found.next_page == NOON + 3 * MINUTE, "if nobody answers, it is theirs then"
    assert "it was the turn of users/ben" in told.why("ana").summary, "on call, and not next"
    later = told.times_out(3).why("cem")
    assert later.verdict is Verdict.WAITING
    assert "level 1: paging users/cem; next in turn, because users/ben has not answered in time" in later.summary


def test_a_level_that_is_not_for_such_an_incident_is_why() -> None:
    told = Told(policy(replace(level(user("ana"), schedule("web")), condition=Condition((3, 4))), level(user("ben"))))
    found = told.why("ana")
    assert found.verdict is Verdict.NOT_PAGED
    assert "it is for warning, info, and the incident is of severity critical" in found.summary
    assert "users/ana names users/ana, and the condition of the level did not hold" in found.summary
