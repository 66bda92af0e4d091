"""What digests are made of in one language: the shape of `texts/digest_words.py`.

Each text names the values in braces that its English one names.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestWords:
    """All texts of one language. Where there are two of one thing, the first is for one and the second for any other number."""

    language: str
    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    moment: str
    """A day, with `weekday`, `day` and `month`."""
    until: str
    now: str
    severities: dict[str, str]

    subject_daily: str
    subject_weekly: str
    heading_daily: str
    heading_weekly: str
    headline: str
    nothing_in_short: str
    nothing_daily: str
    nothing_weekly: str

    opened: str
    resolved: str
    still_open: str
    pages: str

    unanswered: tuple[str, str]
    answered_after: str
    acknowledged: tuple[str, str, str]
    """Once, twice, and more often."""
    seconds: str
    minutes: str
    hours: str
    days: str

    open_heading: str
    open_line: str
    in_hand: str
    not_in_hand: str
    noise_heading: str
    alerts: tuple[str, str]
    incidents: tuple[str, str]
    noise_line: str
    shifts_heading: str
    no_title: str

    pages_in_short: tuple[str, str]
    noise_in_short: str
    shift_in_short: str

    incomplete: str
    asked_daily: str
    asked_weekly: str
    ends_by_call: str
    ends_by_link: str
    end_button: str
    end_ask: str
    ended: str
    end_too_old: str
