"""Requests about one incident, as steps."""

from dataclasses import replace
from typing import Protocol

from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.domain.events import Event
from tocsin_escalation.rpc import mapping


class Command(Protocol):
    """A request about one incident, with the etag of the state that its sender saw."""

    name: str
    etag: str


def step_of(request: Command, event: Event) -> Step:
    """The step of a person or machine that changes it."""
    return Step(mapping.incident_id(request.name), event, request.etag)


class Answering(Command, Protocol):
    """A request by which people answer pages."""

    via: str


def answer_of(request: Answering, event: Event) -> Step:
    """The step of a person who answers a page. With an etag it is about this very incident, even if it was merged since."""
    return replace(step_of(request, event), answers=bool(request.via) and not request.etag)
