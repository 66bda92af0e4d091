"""Messages that Tocsin itself sends, in the language of their user."""

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.texts import reminders, shifts


def in_language(job: NotificationJob, language: str) -> NotificationJob:
    """The job unchanged if a person wrote it; else with title and text in the language.

    Raises ValueError, OverflowError for shift content that has no text; content that was read as a job always has one.
    """
    if job.HasField("shift"):
        return shifts.in_language(job, language)
    return reminders.in_language(job, language) if job.HasField("reminder") else job
