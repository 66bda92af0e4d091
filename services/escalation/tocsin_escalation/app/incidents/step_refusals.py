"""What a caller is told whose step was refused."""

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.errors import TocsinError, invalid

from tocsin_escalation.domain.decision import Refusal
from tocsin_escalation.domain.escalation import Escalation


def refused(run: Escalation, refusal: Refusal) -> TocsinError:
    """The error behind a refusal."""
    name = f"incidents/{run.incident_id}"
    last = len(run.policy.levels) if run.policy else 0
    match refusal:
        case Refusal.INCIDENT_RESOLVED:
            return TocsinError(reasons.ERROR_REASON_INCIDENT_RESOLVED, f"{name} is resolved", metadata={"name": name})
        case Refusal.LEVEL_UNKNOWN:
            return invalid("level", f"the policy has {last} levels; name one of them, or 0 for the next")
        case Refusal.NO_RESPONDERS:
            return invalid(
                "targets", "none of these can be paged, except perhaps yourself; name users who are not disabled"
            )
        case Refusal.NO_POLICY:
            return _wrong_state(run, "has no policy that could begin again; hand it to one with ReassignIncident")
        case Refusal.NO_NEXT_LEVEL:
            return TocsinError(
                reasons.ERROR_REASON_NO_NEXT_LEVEL,
                f"{name} is at level {run.level} of {last}; there is no level above it to escalate to",
                metadata={"name": name, "level": str(run.level)},
            )
        case Refusal.INCIDENT_MERGED:
            into = f"incidents/{run.merged_into}"
            advice = f"is merged into {into}: act on that one, or take this one out with UnmergeIncident"
            return _wrong_state(run, advice, merged_into=into)
        case Refusal.NOT_MERGED:
            return _wrong_state(run, f"is {run.state.value}; only a merged incident can be taken out of another one")
        case Refusal.INCIDENT_STATE:
            return _wrong_state(run, f"is {run.state.value}; this needs an acknowledged or snoozed incident")


def _wrong_state(run: Escalation, why: str, **metadata: str) -> TocsinError:
    name = f"incidents/{run.incident_id}"
    return TocsinError(
        reasons.ERROR_REASON_INCIDENT_STATE,
        f"{name} {why}",
        metadata={"name": name, "state": run.state.value, **metadata},
    )
