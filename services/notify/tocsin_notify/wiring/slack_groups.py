"""What user groups of Slack consist of, connected. A part of `wiring`."""

from tocsin_notify.app.chat.slack_groups import ChosenGroups, KeepSlackGroups
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.domain.page import Channel
from tocsin_notify.rpc.slack_group_service import SlackGroupService
from tocsin_notify.wiring.base import Base


def serve_slack_groups(base: Base) -> None:
    """Add the service, and the loop that keeps groups in step."""
    settings, slack = base.settings, base.channels[Channel.SLACK]
    groups = ChosenGroups(settings.groups_allowed, TYPES[Channel.SLACK].missing(settings), base.budgets)
    base.runtime.rpc.add(SlackGroupService(base.db, groups, base.escalation, base.page_tokens))
    if settings.slack_account.token and isinstance(slack, SlackChannel):
        keep = KeepSlackGroups(base.db, base.escalation, slack, base.metrics)
        base.runtime.loops.add("slack-groups", base.looks.sweep("slack_groups", keep.everything))
