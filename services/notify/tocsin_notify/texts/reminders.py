"""Reminders in the language of their user: escalation, which makes them, knows no languages."""

from typing import Final

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.texts.catalogue import words_of

_MOST: Final = 4096


def in_language(job: NotificationJob, language: str) -> NotificationJob:
    """The job as it is in the first language, or with title and text in another one."""
    if language == LANGUAGES[0]:
        return job
    words, reminder = words_of(language), job.reminder
    said = NotificationJob()
    said.CopyFrom(job)
    said.title = words.reminder.format(title=reminder.title)[:_MOST]
    state = getattr(words, f"state_{reminder.incident_state}", "") if reminder.incident_state else ""
    if state:  # a word that only a newer escalation knows stays in its English sentence
        said.text = words.reminder_state.format(state=state)
    return said
