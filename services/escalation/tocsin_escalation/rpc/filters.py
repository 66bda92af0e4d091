"""Which incidents a request means."""

from datetime import UTC

from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.errors import invalid

from tocsin_escalation.rpc import mapping
from tocsin_escalation.store.incidents.finding import MOST_WORDS, Filters, words_of


def filters_from(request: pb.ListIncidentsRequest, path: str = "") -> Filters:
    """The filters of a list. `path` stands before the names of fields. Raises INVALID_FIELD for too many words."""
    words = words_of(request.query)
    if len(words) > MOST_WORDS:
        raise invalid(f"{path}query", f"must have at most {MOST_WORDS} words, not {len(words)}")
    return Filters(
        states=tuple(mapping.STATE_NAMES[state] for state in request.states),
        policy=request.policy.removeprefix("policies/"),
        team=request.team.removeprefix("teams/"),
        assignee=request.assignee.removeprefix("users/"),
        start_time=request.start_time.ToDatetime(UTC) if request.HasField("start_time") else None,
        end_time=request.end_time.ToDatetime(UTC) if request.HasField("end_time") else None,
        reached=tuple(mapping.REACHED_NAMES[reached] for reached in request.reached),
        severities=tuple(request.severities),
        labels=dict(request.labels),
        words=words,
        follower=request.follower.removeprefix("users/"),
    )
