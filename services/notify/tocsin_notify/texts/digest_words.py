"""The words of digests, in each language."""

from collections.abc import Mapping
from typing import Final

from tocsin_notify.domain.digest_words import DigestWords
from tocsin_notify.domain.template import LANGUAGES

_EN: Final = DigestWords(
    language="en",
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    months=("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    moment="{weekday} {day} {month}",
    until="{start} to {end}",
    now="now",
    severities={"critical": "critical", "error": "error", "warning": "warning", "info": "info"},
    subject_daily="[digest] {day}: {headline}",
    subject_weekly="[digest] week to {day}: {headline}",
    heading_daily="Your daily digest",
    heading_weekly="Your weekly digest",
    headline="{opened} opened, {resolved} resolved, {open} still open",
    nothing_in_short="nothing to tell",
    nothing_daily="Nothing to tell: no incident was opened, resolved or is open, no page came for you, and you are not on call "
    "until tomorrow's digest.",
    nothing_weekly="Nothing to tell: no incident was opened, resolved or is open, no page came for you, and you are not on call "
    "until next week's digest.",
    opened="opened",
    resolved="resolved",
    still_open="still open",
    pages="pages for you",
    unanswered=(
        "Of the open incidents, {count} is not acknowledged.",
        "Of the open incidents, {count} are not acknowledged.",
    ),
    answered_after="Incidents were acknowledged after {span} on average.",
    acknowledged=("You acknowledged once.", "You acknowledged twice.", "You acknowledged {count} times."),
    seconds="{count} s",
    minutes="{count} min",
    hours="{count} h",
    days="{count} days",
    open_heading="Still open, the oldest first",
    open_line="{severity}, since {since}, {state}",
    in_hand="acknowledged",
    not_in_hand="not acknowledged",
    noise_heading="Most alerts",
    alerts=("{count} alert", "{count} alerts"),
    incidents=("{count} incident", "{count} incidents"),
    noise_line="{alerts} in {incidents}",
    shifts_heading="You are on call",
    no_title="(no title)",
    pages_in_short=("{count} page for you.", "{count} pages for you."),
    noise_in_short="Most alerts: {title} ({count}).",
    shift_in_short="You are on call: {schedule}, {stretch}.",
    incomplete="Your organisation has more schedules than a digest looks at: shifts of yours may be missing here.",
    asked_daily="You get this daily digest because you asked for it.",
    asked_weekly="You get this weekly digest because you asked for it.",
    ends_by_call="DeleteDigest ends it.",
    ends_by_link="To end it: {link}",
    end_button="End this digest",
    end_ask="No further digest of this kind is sent to you once you end it. UpdateDigest brings it back.",
    ended="This digest has ended.",
    end_too_old="This link is too old. A newer digest has one that ends it, and so does DeleteDigest.",
)
_DE: Final = DigestWords(
    language="de",
    weekdays=("Mo", "Di", "Mi", "Do", "Fr", "Sa", "So"),
    months=("Jan", "Feb", "März", "Apr", "Mai", "Juni", "Juli", "Aug", "Sep", "Okt", "Nov", "Dez"),
    moment="{weekday} {day}. {month}",
    until="{start} bis {end}",
    now="jetzt",
    severities={"critical": "kritisch", "error": "Fehler", "warning": "Warnung", "info": "Info"},
    subject_daily="[Überblick] {day}: {headline}",
    subject_weekly="[Überblick] Woche bis {day}: {headline}",
    heading_daily="Ihr täglicher Überblick",
    heading_weekly="Ihr wöchentlicher Überblick",
    headline="{opened} neu, {resolved} behoben, {open} noch offen",
    nothing_in_short="nichts zu berichten",
    nothing_daily="Nichts zu berichten: Kein Vorfall kam hinzu, wurde behoben oder ist offen, kein Alarm kam für Sie, und bis zum "
    "Überblick von morgen haben Sie keine Bereitschaft.",
    nothing_weekly="Nichts zu berichten: Kein Vorfall kam hinzu, wurde behoben oder ist offen, kein Alarm kam für Sie, und bis zum "
    "Überblick der nächsten Woche haben Sie keine Bereitschaft.",
    opened="neu",
    resolved="behoben",
    still_open="noch offen",
    pages="Alarme für Sie",
    unanswered=(
        "Von den offenen Vorfällen ist {count} nicht übernommen.",
        "Von den offenen Vorfällen sind {count} nicht übernommen.",
    ),
    answered_after="Vorfälle wurden im Mittel nach {span} übernommen.",
    acknowledged=("Sie haben einmal übernommen.", "Sie haben zweimal übernommen.", "Sie haben {count}-mal übernommen."),
    seconds="{count} s",
    minutes="{count} min",
    hours="{count} h",
    days="{count} Tagen",
    open_heading="Noch offen, die ältesten zuerst",
    open_line="{severity}, seit {since}, {state}",
    in_hand="übernommen",
    not_in_hand="nicht übernommen",
    noise_heading="Die meisten Meldungen",
    alerts=("{count} Meldung", "{count} Meldungen"),
    incidents=("{count} Vorfall", "{count} Vorfällen"),
    noise_line="{alerts} in {incidents}",
    shifts_heading="Ihre Bereitschaft",
    no_title="(ohne Titel)",
    pages_in_short=("{count} Alarm für Sie.", "{count} Alarme für Sie."),
    noise_in_short="Die meisten Meldungen: {title} ({count}).",
    shift_in_short="Ihre Bereitschaft: {schedule}, {stretch}.",
    incomplete="Ihre Organisation hat mehr Dienstpläne, als ein Überblick ansieht: Hier können Schichten von Ihnen fehlen.",
    asked_daily="Sie bekommen diesen täglichen Überblick, weil Sie ihn wollten.",
    asked_weekly="Sie bekommen diesen wöchentlichen Überblick, weil Sie ihn wollten.",
    ends_by_call="DeleteDigest beendet ihn.",
    ends_by_link="Ihn beenden: {link}",
    end_button="Diesen Überblick beenden",
    end_ask="Sie bekommen keinen weiteren Überblick dieser Art, wenn Sie ihn beenden. UpdateDigest bringt ihn zurück.",
    ended="Dieser Überblick ist beendet.",
    end_too_old="Dieser Link ist zu alt. Ein neuerer Überblick hat einen, der ihn beendet; DeleteDigest beendet ihn auch.",
)
DIGEST_WORDS: Final[Mapping[str, DigestWords]] = {"en": _EN, "de": _DE}


def digest_words_of(language: str) -> DigestWords:
    """Of a language; those of the first one for a language that only a newer version knows."""
    return DIGEST_WORDS.get(language) or DIGEST_WORDS[LANGUAGES[0]]
