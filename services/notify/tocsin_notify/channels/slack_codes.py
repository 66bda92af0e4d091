"""What Slack's error words mean. Sources: docs.slack.dev/reference/methods/chat.postMessage#errors, and those of
usergroups.users.update, usergroups.disable and usergroups.enable.
"""

from typing import Final

from tocsin_notify.channels.posting import may_pass
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable

CONFIGURATION: Final = frozenset(
    {
        "access_denied",
        "account_inactive",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
"""The operator must correct it: a page goes to the next method meanwhile."""
RECIPIENT: Final = frozenset(
    {
        "as_user_not_supported",
        "cant_update_message",
        "cannot_dm_bot",
        "channel_not_found",
        "invalid_blocks",
        "invalid_blocks_format",
        "is_archived",
        "edit_window_closed",
        "message_limit_exceeded",
        "message_not_found",
        "messages_tab_disabled",
        "metadata_too_large",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "not_in_channel",
        "restricted_action",
        "restricted_action_non_threadable_channel",
        "restricted_action_read_only_channel",
        "restricted_action_thread_locked",
        "restricted_action_thread_only_channel",
        "slack_connect_blocked_file_sharing",
        "user_not_found",
        "user_disabled",
    }
)
"""This channel or person does not take this message."""
GROUP: Final = frozenset(
    {
        "failed_for_some_users",
        "invalid_user",
        "invalid_users",
        "no_such_subteam",
        "no_users_provided",
        "permission_denied",
        "plan_upgrade_required",
        "single_channel_guests_cannot_be_added",
        "subteam_max_users_exceeded",
    }
)
"""This user group does not take these members, or none from this app."""
DONE_BEFORE: Final = frozenset({"already_disabled", "already_enabled"})
"""The group is already in the wanted state."""


def refusal(word: str, status: int, after: float | None) -> Outcome:
    """`word`: Slack's own, which comes with HTTP 200 as well. A word that is not listed is retryable."""
    said = f"{status} {word}".strip()
    if word in CONFIGURATION:
        return Retryable(f"{said} (the app at Slack or SLACK_BOT_TOKEN is to be mended)", max(AWAY, after or 0.0))
    if word in RECIPIENT or word in GROUP or (400 <= status < 500 and not may_pass(status)):
        return Permanent(said)
    return Retryable(said, after)
