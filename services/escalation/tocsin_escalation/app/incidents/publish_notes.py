"""Reports committed timeline entries to streams of changes, the log and the metrics."""

from collections import Counter
from collections.abc import Sequence

from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.domain.decision import Note, NoteKind
from tocsin_escalation.domain.escalation import Reached, Run

_log = get_logger(__name__)


def publish(effects: Effects, notes: Sequence[tuple[Run, Note]]) -> None:
    """Each note, with the run as it is after it."""
    effects.watching.changed({run.org_id for run, _ in notes})
    for kind, count in Counter(note.kind.value for _, note in notes).items():
        effects.metrics.events.labels(kind).inc(count)
    for run, note in notes:
        if note.gap is not None:
            effects.metrics.gaps_met.labels(note.gap.value).inc()
        about = {"incident": str(run.incident_id), "org_id": run.org_id, "generation": run.generation}
        if note.kind in (NoteKind.EXHAUSTED, NoteKind.NOBODY_REACHED):
            effects.metrics.exhausted.inc(note.kind is NoteKind.EXHAUSTED)
            if run.reached is Reached.NOBODY:
                effects.metrics.nobody_paged.inc()
            _log.error(f"escalation_{note.kind.value}", reason=note.message, reached=run.reached.value, **about)
        elif note.kind in (NoteKind.PAGE_UNREACHABLE, NoteKind.PAGE_FAILED):
            event = f"timeline_{note.kind.value}"
            _log.error(event, at_level=note.level, reason=note.message, page=str(note.page), **about)
        else:
            event = f"timeline_{note.kind.value}"
            _log.info(event, at_level=note.level, state=run.state.value, actor=note.actor, **about)
