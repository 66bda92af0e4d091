"""Messages that Tocsin itself sends, in the language of their user."""

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.texts import reminders, shifts


def in_language(job: NotificationJob, language: str) -> NotificationJob:
    """The job as it is if a person wrote it; else with title and text in the language.

    Raises ValueError, OverflowError for a shift content that cannot be told; none that was read as a job is.
    """
    if job.HasField("shift"):
        return shifts.in_language(job, language)
    return reminders.in_language(job, language) if job.HasField("reminder") else job
