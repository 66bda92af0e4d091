"""What user groups of Slack consist of, connected. A part of `wiring`."""

from tocsin_kit.db.pool import Database
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.paging import PageTokens

from tocsin_notify.app.chat.slack_groups import ChosenGroups, KeepSlackGroups
from tocsin_notify.app.delivery.looks import Looks
from tocsin_notify.channels.registry import TYPES, Registry
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.page import Channel
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.rpc.slack_group_service import SlackGroupService
from tocsin_notify.settings import NotifySettings


def add_slack_groups(
    runtime: Runtime[NotifySettings],
    db: Database,
    escalation: Escalation,
    channels: Registry,
    metrics: NotifyMetrics,
    pages: PageTokens,
    looks: Looks,
) -> None:
    """Add the service, and the loop that keeps groups in step."""
    settings = runtime.settings
    groups = ChosenGroups(settings.groups_allowed, TYPES[Channel.SLACK].missing(settings), runtime.rpc.budgets)
    runtime.rpc.add(SlackGroupService(db, groups, escalation, pages))
    slack = channels[Channel.SLACK]
    if settings.slack_account.token and isinstance(slack, SlackChannel):
        keep = KeepSlackGroups(db, escalation, slack, metrics)
        runtime.loops.add("slack-groups", looks.sweep("slack_groups", keep.everything))
