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
            return TocsinError(
                reasons.ERROR_REASON_INCIDENT_STATE,
                f"{name} has no policy that could begin again; hand it to one with ReassignIncident",
                metadata={"name": name, "state": run.state.value},
            )
        case Refusal.NO_NEXT_LEVEL:
            return TocsinError(
                reasons.ERROR_REASON_NO_NEXT_LEVEL,
                f"{name} is at level {run.level} of {last}; there is no level above it to escalate to",
                metadata={"name": name, "level": str(run.level)},
            )
        case Refusal.INCIDENT_MERGED:
            return TocsinError(
                reasons.ERROR_REASON_INCIDENT_STATE,
                f"{name} is merged into incidents/{run.merged_into}: act on that one, or take this one out with UnmergeIncident",
                metadata={"name": name, "state": run.state.value, "merged_into": f"incidents/{run.merged_into}"},
            )
        case Refusal.NOT_MERGED:
            return TocsinError(
                reasons.ERROR_REASON_INCIDENT_STATE,
                f"{name} is {run.state.value}; only a merged incident can be taken out of another one",
                metadata={"name": name, "state": run.state.value},
            )
        case Refusal.INCIDENT_STATE:
            return TocsinError(
                reasons.ERROR_REASON_INCIDENT_STATE,
                f"{name} is {run.state.value}; this needs an acknowledged or snoozed incident",
                metadata={"name": name, "state": run.state.value},
            )
