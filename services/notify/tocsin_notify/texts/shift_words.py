"""The words of notices about shifts, in each language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.template import LANGUAGES

Forms = tuple[str, str]
"""Of one, and of any other number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftWords:
    """All texts of one language. Each names the values in braces that its English one names."""

    actor: str
    """Who sends it, as other messages name their sender."""

    begins: str
    began: str
    on_call_now: str
    week: Forms
    week_nothing: str
    nothing_until: str
    changed: str
    offered: str
    accepted: str
    declined: str

    stretch: str
    stretch_open: str
    """One that ends later than was looked ahead."""
    span: str
    now: str
    takes_over: str
    beside: str
    not_listed: str
    more: str
    """Behind the names of a line."""
    at_least: str
    zone: str

    gained: str
    lost: str
    because: str
    lost_to: str
    lost_to_nobody: str
    absent: str
    deleted: str
    causes: Mapping[str, str]

    no_incident: str
    unseen_incidents: str
    incidents: Forms
    incidents_at_least: Forms
    incident: str

    in_return: str
    reason: str
    answer: str

    days: Forms
    hours: Forms
    minutes: Forms
    no_minute: str


_EN: Final = ShiftWords(
    actor="your shift notices",
    begins="Your shift begins {start}, in {span}",
    began="Your shift began {start}, {span} ago",
    on_call_now="You are on call now: {schedules}",
    week=("The coming week: {count} shift", "The coming week: {count} shifts"),
    week_nothing="The coming week: you are not on call",
    nothing_until="No shift of yours begins by {end}.",
    changed="Your shifts have changed: {schedules}",
    offered="{people} offers you time on call: {schedule}",
    accepted="{people} takes your time on call: {schedule}",
    declined="Nobody takes your time on call; declined by {people}: {schedule}",
    stretch="{schedule}: {start} to {end}",
    stretch_open="{schedule}: {start} for more than a week",
    span="{start} to {end}",
    now="now",
    takes_over="; you take over from {people}",
    beside="; with {people}",
    not_listed="… and {count} more",
    more="{names} and {count} more",
    at_least="at least {count}",
    zone="Times are those of {zone}.",
    gained="Now yours: {schedule}, {span}{why}",
    lost="No longer yours: {schedule}, {span}; {who}{why}",
    because=" ({cause})",
    lost_to="on call is {people}",
    lost_to_nobody="nobody is on call",
    absent="you are away, and {who}",
    deleted="the schedule is deleted",
    causes={
        "override": "an override",
        "swap": "a swap",
        "fixed_period": "a fixed period",
        "stand_in": "standing in for a user who is away",
        "calendar": "an imported calendar",
    },
    no_incident="No incident is open.",
    unseen_incidents="More incidents are open than were looked at.",
    incidents=("{count} incident open:", "{count} incidents open:"),
    incidents_at_least=("At least {count} incident open:", "At least {count} incidents open:"),
    incident="- {title} ({severity}, {state}, since {since})",
    in_return="In return for your time on call: {span}",
    reason="Reason: {reason}",
    answer="Accept or decline it as {swap}.",
    days=("{count} day", "{count} days"),
    hours=("{count} hour", "{count} hours"),
    minutes=("{count} minute", "{count} minutes"),
    no_minute="less than a minute",
)
_DE: Final = ShiftWords(
    actor="Ihren Schichtmeldungen",
    begins="Ihre Schicht beginnt {start}, in {span}",
    began="Ihre Schicht begann {start}, vor {span}",
    on_call_now="Sie haben jetzt Bereitschaft: {schedules}",
    week=("Die kommende Woche: {count} Schicht", "Die kommende Woche: {count} Schichten"),
    week_nothing="Die kommende Woche: Sie haben keine Bereitschaft",
    nothing_until="Bis {end} beginnt keine Schicht von Ihnen.",
    changed="Ihre Schichten haben sich geändert: {schedules}",
    offered="{people} bietet Ihnen Bereitschaft an: {schedule}",
    accepted="{people} übernimmt Ihre Bereitschaft: {schedule}",
    declined="Niemand übernimmt Ihre Bereitschaft; abgelehnt von {people}: {schedule}",
    stretch="{schedule}: {start} bis {end}",
    stretch_open="{schedule}: ab {start}, länger als eine Woche",
    span="{start} bis {end}",
    now="jetzt",
    takes_over="; Sie übernehmen von {people}",
    beside="; mit {people}",
    not_listed="… und {count} weitere",
    more="{names} und noch {count}",
    at_least="mindestens {count}",
    zone="Alle Zeiten sind die von {zone}.",
    gained="Jetzt Ihre: {schedule}, {span}{why}",
    lost="Nicht mehr Ihre: {schedule}, {span}; {who}{why}",
    because=" ({cause})",
    lost_to="Bereitschaft hat {people}",
    lost_to_nobody="niemand hat Bereitschaft",
    absent="Sie sind abwesend, und {who}",
    deleted="den Dienstplan gibt es nicht mehr",
    causes={
        "override": "durch einen Override",
        "swap": "durch einen Tausch",
        "fixed_period": "durch einen festen Zeitraum",
        "stand_in": "in Vertretung für jemanden, der abwesend ist",
        "calendar": "durch einen eingebundenen Kalender",
    },
    no_incident="Kein Vorfall ist offen.",
    unseen_incidents="Es sind mehr Vorfälle offen, als angesehen wurden.",
    incidents=("{count} Vorfall ist offen:", "{count} Vorfälle sind offen:"),
    incidents_at_least=("Mindestens {count} Vorfall ist offen:", "Mindestens {count} Vorfälle sind offen:"),
    incident="- {title} ({severity}, {state}, seit {since})",
    in_return="Im Tausch gegen Ihre Bereitschaft: {span}",
    reason="Grund: {reason}",
    answer="Nehmen Sie es als {swap} an, oder lehnen Sie es ab.",
    days=("{count} Tag", "{count} Tagen"),
    hours=("{count} Stunde", "{count} Stunden"),
    minutes=("{count} Minute", "{count} Minuten"),
    no_minute="weniger als einer Minute",
)
SHIFT_WORDS: Final[Mapping[str, ShiftWords]] = {"en": _EN, "de": _DE}


def shift_words_of(language: str) -> ShiftWords:
    """Of a language; those of the first one for a language that only a newer version knows."""
    return SHIFT_WORDS.get(language) or SHIFT_WORDS[LANGUAGES[0]]
