"""Messages to users who follow an incident."""

from collections.abc import Iterable
from typing import Final

from tocsin_escalation.domain.decision import Note, NoteKind

MOST_FOLLOWERS: Final = 50
"""Users of one incident: each change is a message to each of them."""
_TOLD: Final = frozenset(
    {
        NoteKind.LEVEL_PAGED,
        NoteKind.EXHAUSTED,
        NoteKind.NOBODY_REACHED,
        NoteKind.ACKNOWLEDGED,
        NoteKind.UNACKNOWLEDGED,
        NoteKind.ACK_TIMED_OUT,
        NoteKind.SNOOZED,
        NoteKind.SNOOZE_ENDED,
        NoteKind.ESCALATED,
        NoteKind.REASSIGNED,
        NoteKind.RESPONDERS_ADDED,
        NoteKind.RESTARTED,
        NoteKind.SEVERITY_RAISED,
        NoteKind.EDITED,
        NoteKind.NOTE,
        NoteKind.HANDED_ON,
        NoteKind.MERGED,
        NoteKind.MERGED_FROM,
        NoteKind.UNMERGED,
        NoteKind.UNMERGED_FROM,
        NoteKind.RESOLVED,
    }
)
"""Entries of the timeline that followers are told. The outcomes of single pages are not among them."""


def lines_for(notes: Iterable[Note], user: str) -> list[str]:
    """Those of these that a user is told: without their own actions, and without pages to them."""
    return [
        note.message
        for note in notes
        if note.kind in _TOLD and note.actor != f"users/{user}" and all(page.user != user for page in note.pages)
    ]
