"""Notices to users about their shifts, in the language of the user: escalation, which makes them, has no texts in other
languages."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import shift_pb2 as pb
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.type.v1.severity_pb2 import Severity

from tocsin_notify.domain.digest_content import moment
from tocsin_notify.domain.digest_words import DigestWords
from tocsin_notify.domain.wall_time import BadTime, check_zone
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.digest_words import digest_words_of
from tocsin_notify.texts.shift_words import Forms, ShiftWords, shift_words_of
from tocsin_notify.texts.words import Words

_MOST: Final = 4096
"""Characters of a title and of a text."""
_WEEK: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)
_SEVERITIES: Final = {
    Severity.SEVERITY_ERROR: "error",
    Severity.SEVERITY_WARNING: "warning",
    Severity.SEVERITY_INFO: "info",
}
"""All others count as critical."""


def in_language(job: NotificationJob, language: str) -> NotificationJob:
    """The job with the title, the text and the sender of its shift content.

    Raises ValueError, OverflowError for times beyond the calendar, and for the beginning of no shift.
    """
    told = _Told(job.shift, shift_words_of(language), digest_words_of(language), words_of(language))
    said = NotificationJob()
    said.CopyFrom(job)
    said.title, said.text = _cut(told.title()), _cut("\n".join(told.lines()))
    said.actor = told.words.actor
    return said


def word_of(content: pb.ShiftContent) -> str:
    """Why the user is told, as templates name it: `hand_over`."""
    return pb.ShiftNotice.Name(content.notice).removeprefix("SHIFT_NOTICE_").lower()


def listed(content: pb.ShiftContent, language: str) -> Iterator[dict[str, str]]:
    """The stretches for templates: the values of each, and the line of the default text."""
    told = _Told(content, shift_words_of(language), digest_words_of(language), words_of(language))
    for each in content.stretches:
        yield {
            "schedule": each.schedule,
            "start": told.start(each),
            "end": told.time(each.end_time) if each.HasField("end_time") else "",
            "line": told.line(each),
        }


@dataclass(frozen=True, slots=True)
class _Told:
    content: pb.ShiftContent
    words: ShiftWords
    days: DigestWords
    general: Words

    def title(self) -> str:
        """One line."""
        content, words = self.content, self.words
        schedules = self._named(list(content.schedules), content.more_schedules)
        values = {"schedules": schedules, "schedule": schedules, "people": self._people(content.people)}
        match content.notice:
            case pb.SHIFT_NOTICE_BEFORE:
                return self._begins()
            case pb.SHIFT_NOTICE_HAND_OVER:
                return words.on_call_now.format(**values)
            case pb.SHIFT_NOTICE_WEEK_AHEAD:
                count = len(content.stretches) + content.more_stretches
                return _counted(words.week, count) if count else words.week_nothing
            case pb.SHIFT_NOTICE_SWAP_OFFERED:
                return words.offered.format(**values)
            case pb.SHIFT_NOTICE_SWAP_ACCEPTED:
                return words.accepted.format(**values)
            case pb.SHIFT_NOTICE_SWAP_DECLINED:
                return words.declined.format(**values)
            case _:
                return words.changed.format(**values)

    def lines(self) -> Iterator[str]:
        """What follows."""
        content, words = self.content, self.words
        if content.notice == pb.SHIFT_NOTICE_WEEK_AHEAD and not content.stretches:
            end = content.make_time.ToDatetime(UTC) + _WEEK
            yield words.nothing_until.format(end=moment(end, self._zone, self.days))
            return
        yield from map(self.line, content.stretches)
        if content.more_stretches:
            yield words.not_listed.format(count=content.more_stretches)
        if content.HasField("in_return"):
            yield words.in_return.format(span=self._span(content.in_return))
        if content.reason:
            yield words.reason.format(reason=content.reason)
        if content.swap:
            yield words.answer.format(swap=content.swap)
        yield words.zone.format(zone=self._zone)
        if content.notice == pb.SHIFT_NOTICE_HAND_OVER:
            yield ""
            yield from self._incidents()

    def line(self, stretch: pb.ShiftStretch) -> str:
        """One of these lines."""
        match self.content.notice:
            case pb.SHIFT_NOTICE_CHANGED:
                return self._change(stretch)
            case pb.SHIFT_NOTICE_SWAP_OFFERED | pb.SHIFT_NOTICE_SWAP_ACCEPTED | pb.SHIFT_NOTICE_SWAP_DECLINED:
                return self._span(stretch)
            case _:
                return self._shift(stretch)

    def start(self, stretch: pb.ShiftStretch) -> str:
        """When it begins."""
        return self.time(stretch.start_time) if stretch.HasField("start_time") else self.words.now

    def time(self, at: Timestamp) -> str:
        """As people read it: `Mon 3 Aug 09:00`."""
        return moment(at.ToDatetime(UTC), self._zone, self.days)

    @property
    def _zone(self) -> str:
        try:
            check_zone(self.content.time_zone)
        except BadTime:  # one that only escalation's zone data knows
            return "UTC"
        return self.content.time_zone

    def _begins(self) -> str:
        if not self.content.stretches:
            raise ValueError("no shift begins")
        first, now = self.content.stretches[0], self.content.make_time.ToDatetime(UTC)
        start = first.start_time.ToDatetime(UTC)
        text = self.words.begins if start > now else self.words.began
        return text.format(start=self.time(first.start_time), span=self._length(abs(start - now)))

    def _shift(self, stretch: pb.ShiftStretch) -> str:
        words, start = self.words, self.start(stretch)
        if stretch.HasField("end_time"):
            line = words.stretch.format(schedule=stretch.schedule, start=start, end=self.time(stretch.end_time))
        else:
            line = words.stretch_open.format(schedule=stretch.schedule, start=start)
        if stretch.HasField("hands_over"):
            line += words.takes_over.format(people=self._people(stretch.hands_over))
        if stretch.HasField("beside"):
            line += words.beside.format(people=self._people(stretch.beside))
        return line

    def _change(self, stretch: pb.ShiftStretch) -> str:
        words = self.words
        cause = words.causes.get(stretch.cause, "")
        values = {
            "schedule": stretch.schedule,
            "span": self._span(stretch),
            "why": words.because.format(cause=cause) if cause else "",
        }
        if not stretch.HasField("loss"):
            return words.gained.format(**values)
        return words.lost.format(who=self._loss(stretch.loss), **values)

    def _loss(self, loss: pb.ShiftLoss) -> str:
        words = self.words
        if loss.deleted:
            return words.deleted
        people = self._people(loss.people)
        who = words.lost_to.format(people=people) if people else words.lost_to_nobody
        return words.absent.format(who=who) if loss.absent else who

    def _incidents(self) -> Iterator[str]:
        content, words = self.content, self.words
        count = len(content.incidents) + content.more_incidents
        if not count:
            yield words.unseen_incidents if content.incidents_incomplete else words.no_incident
            return
        yield _counted(words.incidents_at_least if content.incidents_incomplete else words.incidents, count)
        for each in content.incidents:
            yield words.incident.format(
                title=each.title,
                severity=getattr(self.general, _SEVERITIES.get(each.severity, "critical")),
                state=getattr(self.general, f"state_{each.state}", each.state),
                since=self.time(each.create_time),
            )
        if content.more_incidents:
            more = str(content.more_incidents)
            yield words.not_listed.format(
                count=words.at_least.format(count=more) if content.incidents_incomplete else more
            )

    def _span(self, stretch: pb.ShiftStretch) -> str:
        return self.words.span.format(start=self.start(stretch), end=self.time(stretch.end_time))

    def _people(self, people: pb.ShiftPeople) -> str:
        return self._named(list(people.names), people.more)

    def _named(self, names: list[str], more: int) -> str:
        listed = ", ".join(names)
        return self.words.more.format(names=listed, count=more) if more else listed

    def _length(self, span: timedelta) -> str:
        """The two largest units: `1 day 2 hours`."""
        words, minutes = self.words, span // _MINUTE
        units = ((words.days, minutes // 1440), (words.hours, minutes % 1440 // 60), (words.minutes, minutes % 60))
        told = [_counted(forms, count) for forms, count in units if count]
        return " ".join(told[:2]) or words.no_minute


def _counted(forms: Forms, count: int) -> str:
    return forms[count != 1].format(count=count)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
