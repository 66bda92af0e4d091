"""The texts that people read and hear when no template replaces them: the shape of a language's file (`en`, `de`).

Each text may name the values in braces that its English one names. A language that lacks a text cannot be made; a test compares the
values that each text names.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """All texts of one language."""

    critical: str
    error: str
    warning: str
    info: str

    subject_page: str
    subject_urgent: str
    subject_acknowledged: str
    subject_resolved: str
    subject_test: str
    subject_contact_changed: str
    subject_message: str
    subject_bundle: str
    subject_code: str
    level: str
    fallback: str

    code: str
    code_unasked: str
    test: str
    test_for: str
    contact_changed: str
    contact_changed_alarm: str
    contact_changed_alarm_short: str
    about: str
    sent_by: str
    reminder: str
    reminder_state: str
    state_triggered: str
    state_acknowledged: str
    state_snoozed: str
    state_exhausted: str
    bundle_why: str
    bundle_one: str
    bundle_more: str
    bundle_waited: str
    bundle_left: str
    bundle_not_listed: str
    change_added: str
    change_verified: str
    change_changed: str
    change_elsewhere: str
    change_disabled: str
    change_deleted: str
    change_gone: str
    change_rules: str
    change_settings: str
    method_named: str
    method_unnamed: str
    channel_email: str
    channel_sms: str
    channel_voice: str
    channel_web_push: str
    channel_console: str
    acknowledged_by: str
    resolved_by: str
    its_source: str
    why_new: str
    why_unanswered: str
    why_asked: str
    paged: str
    at_level: str
    as_fallback: str
    urgent: str
    answer: str
    mail_reply: str
    mail_reply_all: str
    fact_incident: str
    fact_severity: str
    fact_source: str
    fact_alerts: str
    fact_policy: str
    fact_level: str
    level_repeat: str

    brief_acknowledged: str
    brief_resolved: str
    happened_snoozed: str
    happened_via: str
    happened_snoozed_until: str
    happened_reassigned: str
    happened_passed_on: str
    happened_restarted: str
    happened_merged: str
    happened_raised: str
    happened_all: str
    brief_urgent: str
    brief_page: str
    brief_asked: str
    unknown: str

    sms_code: str
    sms_contact_changed: str
    sms_acknowledged: str
    sms_resolved: str
    sms_level: str
    sms_asked: str
    sms_reply: str
    sms_reply_all: str

    voice_locale: str
    """The language of the voice that reads (twilio.com/docs/voice/twiml/say#attributes-language)."""
    voice_page: str
    voice_level: str
    voice_asked: str
    voice_bundle: str
    voice_code: str
    voice_test: str
    voice_contact_changed: str
    voice_message: str
    voice_acknowledged: str
    voice_resolved: str
    voice_and_so_on: str
    keys: str
    keys_of_bundles: str
    no_key: str
    keys_not_taken: str
    goodbye: str

    call_acknowledged: str
    call_escalated: str
    call_unknown: str
    call_stale: str
    call_over: str
    call_merged: str
    call_no_meaning: str
    call_last_level: str
    call_later: str
    call_refused: str

    button_acknowledge: str
    button_acknowledge_all: str
    button_escalate: str
    button_open: str
    button_answer: str

    page_language: str
    page_for: str
    pages_for: str
    page_time: str
    page_did_acknowledge: str
    page_pressed_acknowledge: str
    page_did_snooze: str
    page_did_escalate: str
    page_did_resolve: str
    page_did_note: str
    page_used: str
    page_expired: str
    page_state_unknown: str
    page_resolved: str
    page_acknowledged: str
    page_again_unless_resolved: str
    page_snoozed: str
    page_again: str
    page_exhausted: str
    page_waiting: str
    page_merged: str
    page_next: str
    page_nobody: str
    page_acknowledge: str
    page_escalate: str
    page_resolve: str
    page_snooze: str
    page_minutes: str
    page_hours: str
    page_note_label: str
    page_note: str
    page_some_wait: str
    page_none_waits: str
    page_acknowledge_all: str
    page_more: str
    page_since: str
    device_title: str
    device_why: str
    device_ask: str
    device_unable: str
    device_refused: str
    device_waits: str
    device_done: str
    device_failed: str
    device_offer: str
    push_failed: str
    problem_over: str
    problem_merged: str
    problem_unknown: str
    problem_last_level: str
    problem_unconfirmed: str
    problem_at_once: str
    problem_passing: str
    problem_refused: str
    problem_buttons: str
    problem_open_first: str
    problem_empty_note: str
