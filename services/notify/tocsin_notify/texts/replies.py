"""The texts for a person who answers by a button, a text message, a mail or a chat command. A table for each language.

Each text may name the values in braces that its English one names; a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.template import LANGUAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyWords:
    """All of them in one language."""

    done_acknowledge: str
    done_snooze: str
    done_escalate: str
    done_resolve: str
    done_note: str
    answer_unknown: str
    answer_stale: str
    answer_over: str
    answer_merged: str
    answer_last_level: str
    answer_refused: str
    answer_later: str
    answer_several: str
    answer_stranger: str

    sms_how: str
    sms_stranger: str
    sms_later: str
    sms_no_such_code: str
    sms_nothing_waits: str
    sms_several: str
    sms_say_which: str
    sms_more: str

    mail_how: str

    chat_how: str
    chat_stranger: str
    chat_later: str
    chat_nothing_now: str
    chat_nothing_with_code: str
    chat_paged_for_nothing: str
    chat_say_which: str
    chat_acknowledged: str
    chat_acknowledged_many: str
    chat_line: str
    chat_waits: str
    chat_in_hand: str
    chat_more: str
    chat_hint: str

    telegram_no_button: str
    telegram_number: str


_EN: Final = ReplyWords(
    done_acknowledge="Acknowledged.",
    done_snooze="Snoozed.",
    done_escalate="The next level is paged.",
    done_resolve="Resolved.",
    done_note="Noted.",
    answer_unknown="Nothing was done: the page is no longer known.",
    answer_stale="Nothing was done: the page is too old.",
    answer_over="Nothing was done: the incident is over.",
    answer_merged="Nothing was done: the incident is merged into another one. Act on that one.",
    answer_last_level="Nothing was done: there is no further level.",
    answer_refused="Nothing was done: your answer was refused, and to repeat it will not help. Answer in Tocsin itself, "
    "and tell your administrator.",
    answer_later="It is not certain that it was done. Press it again.",
    answer_several="Nothing was done: the message stands for several incidents. Open its link.",
    answer_stranger="Nothing was done: add this account to your contact methods and verify it, so that it is known whose it is.",
    sms_how="Answer a page with its code and a letter: 12a acknowledges, 12e pages the next level, 12r resolves.",
    sms_stranger="This number is nobody's here. Add it to your contact methods in Tocsin and verify it.",
    sms_later="It is not certain that it was done. Send it again.",
    sms_no_such_code="Nothing was done: no page of today has this code.",
    sms_nothing_waits="Nothing was done: no page waits.",
    sms_several="Nothing was done: several pages have this code. Open the link in the message.",
    sms_say_which="Nothing was done: say which. {listed}",
    sms_more="; and {count} more",
    mail_how="Nothing was done: the first line of the reply says none of ack, escalate, resolve, or note and a text.",
    chat_how='Say "list" for what you are paged for, "ack 12" to acknowledge the one with the code 12, or "ack all".',
    chat_stranger="Add this Slack account (your member ID) to your contact methods in Tocsin and verify it: nobody knows it yet.",
    chat_later="It is not certain that it was done: the service that knows the incidents does not answer. Send it again.",
    chat_nothing_now="Nothing was done: you are paged for nothing now.",
    chat_nothing_with_code="Nothing was done: you are paged for nothing with the code {code}.",
    chat_paged_for_nothing="You are paged for nothing now.",
    chat_say_which="Nothing was done: say which.",
    chat_acknowledged="Acknowledged: {title}",
    chat_acknowledged_many="Acknowledged: {count} incidents.",
    chat_line="{code}: {severity}: {title} ({state}, since {since} UTC)",
    chat_waits="waits for an answer",
    chat_in_hand="acknowledged",
    chat_more="and {count} more",
    chat_hint='"ack" with a code acknowledges one, "ack all" all.',
    telegram_no_button="This button is not one of ours, or too old.",
    telegram_number="The chat_id for your contact method is {number}.",
)
_DE: Final = ReplyWords(
    done_acknowledge="Übernommen.",
    done_snooze="Zurückgestellt.",
    done_escalate="Die nächste Stufe wird alarmiert.",
    done_resolve="Behoben.",
    done_note="Notiert.",
    answer_unknown="Es wurde nichts getan: Der Alarm ist nicht mehr bekannt.",
    answer_stale="Es wurde nichts getan: Der Alarm ist zu alt.",
    answer_over="Es wurde nichts getan: Der Vorfall ist vorbei.",
    answer_merged="Es wurde nichts getan: Der Vorfall ist in einem anderen aufgegangen. Antworten Sie auf jenen.",
    answer_last_level="Es wurde nichts getan: Es gibt keine weitere Stufe.",
    answer_refused="Es wurde nichts getan: Ihre Antwort wurde abgelehnt, und sie zu wiederholen hilft nicht. "
    "Antworten Sie in Tocsin selbst, und sagen Sie es Ihrem Administrator.",
    answer_later="Es ist nicht sicher, ob es getan wurde. Drücken Sie noch einmal.",
    answer_several="Es wurde nichts getan: Die Nachricht steht für mehrere Vorfälle. Öffnen Sie ihren Link.",
    answer_stranger="Es wurde nichts getan: Fügen Sie dieses Konto Ihren Kontaktwegen hinzu und bestätigen Sie es, "
    "damit bekannt ist, wem es gehört.",
    sms_how="Antworten Sie mit dem Code des Alarms und einem Buchstaben: 12a übernimmt, 12e alarmiert die nächste Stufe, "
    "12r beendet.",
    sms_stranger="Diese Nummer gehört hier niemandem. Fügen Sie sie in Tocsin Ihren Kontaktwegen hinzu und bestätigen Sie sie.",
    sms_later="Es ist nicht sicher, ob es getan wurde. Senden Sie es noch einmal.",
    sms_no_such_code="Es wurde nichts getan: Kein Alarm von heute hat diesen Code.",
    sms_nothing_waits="Es wurde nichts getan: Kein Alarm wartet.",
    sms_several="Es wurde nichts getan: Mehrere Alarme haben diesen Code. Öffnen Sie den Link in der Nachricht.",
    sms_say_which="Es wurde nichts getan: Welcher ist gemeint? {listed}",
    sms_more="; und {count} weitere",
    mail_how="Es wurde nichts getan: In der ersten Zeile der Antwort steht weder ack (übernehmen) noch escalate (nächste Stufe), "
    "resolve (beheben) oder note und ein Text.",
    chat_how="„list“ zeigt, wofür Sie alarmiert sind, „ack 12“ übernimmt den Vorfall mit dem Code 12, „ack all“ alle.",
    chat_stranger="Fügen Sie dieses Slack-Konto (Ihre Member-ID) in Tocsin Ihren Kontaktwegen hinzu und bestätigen Sie es: "
    "Noch kennt es niemand.",
    chat_later="Es ist nicht sicher, ob es getan wurde: Der Dienst, der die Vorfälle kennt, antwortet nicht. Senden Sie es "
    "noch einmal.",
    chat_nothing_now="Es wurde nichts getan: Sie sind gerade für nichts alarmiert.",
    chat_nothing_with_code="Es wurde nichts getan: Sie sind für nichts mit dem Code {code} alarmiert.",
    chat_paged_for_nothing="Sie sind gerade für nichts alarmiert.",
    chat_say_which="Es wurde nichts getan: Welcher ist gemeint?",
    chat_acknowledged="Übernommen: {title}",
    chat_acknowledged_many="Übernommen: {count} Vorfälle.",
    chat_line="{code}: {severity}: {title} ({state}, seit {since} UTC)",
    chat_waits="wartet auf eine Antwort",
    chat_in_hand="übernommen",
    chat_more="und {count} weitere",
    chat_hint="„ack“ mit einem Code übernimmt einen, „ack all“ alle.",
    telegram_no_button="Dieser Knopf ist keiner von uns, oder zu alt.",
    telegram_number="Die chat_id für Ihren Kontaktweg ist {number}.",
)
REPLY_WORDS: Final[Mapping[str, ReplyWords]] = {"en": _EN, "de": _DE}


def reply_words_of(language: str) -> ReplyWords:
    """Of a language; those of the first one for a language that there is not."""
    return REPLY_WORDS.get(language) or REPLY_WORDS[LANGUAGES[0]]
