"""The rules of an alert that its contract writes as expressions, in Python: `tocsin_kit.rpc.precheck` compares with these.

The expressions are repeated as they stand in `alert.proto`. One that is changed there and not here costs an alert 15 µs
and nothing else.
"""

from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    ALERT_ACTION_UNSPECIFIED,
    AlertInput,
)
from tocsin_kit.rpc.precheck import register_rule


def register_rules() -> None:
    """Make them known. A test finds out whether they are the contract's."""
    register_rule("int(this.action) in [2, 3] || this.summary != ''", _has_summary)
    register_rule(
        "int(this.action) in [0, 1] || this.dedup_key != '' || size(this.labels) > 0 || this.source != ''", _has_key
    )


def _has_summary(alert: AlertInput) -> bool:
    return alert.summary != "" or alert.action in (ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE)


def _has_key(alert: AlertInput) -> bool:
    if alert.dedup_key != "" or alert.action in (ALERT_ACTION_UNSPECIFIED, ALERT_ACTION_TRIGGER):
        return True
    return len(alert.labels) > 0 or alert.source != ""
