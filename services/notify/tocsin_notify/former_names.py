"""Former names of variables whose name tells the unit now (`tocsin_kit.former_names`). The next release does not read them."""

from typing import Final

FORMER_NAMES: Final = {
    "NOTIFY_ORG_RATE": "org_rate_per_second",
    "NOTIFY_BACKOFF_BASE": "backoff_base_seconds",
    "NOTIFY_BACKOFF_CAP": "backoff_cap_seconds",
    "NOTIFY_RETRY_WINDOW": "retry_window_seconds",
    "NOTIFY_CIRCUIT_PROBE": "circuit_probe_seconds",
    "NOTIFY_ATTEMPT_TIMEOUT": "attempt_timeout_seconds",
    "NOTIFY_LEASE": "lease_seconds",
    "NOTIFY_EVENT_BACKOFF_BASE": "event_backoff_base_seconds",
    "NOTIFY_EVENT_BACKOFF_CAP": "event_backoff_cap_seconds",
    "NOTIFY_EVENT_RETRY_WINDOW": "event_retry_window_seconds",
    "NOTIFY_EVENT_STOP_AFTER": "event_stop_after_seconds",
    "NOTIFY_RECEIPT_TIMEOUT": "receipt_timeout_seconds",
    "NOTIFY_LINK_LIFETIME": "link_lifetime_seconds",
    "TWILIO_SMS_VALIDITY": "twilio_sms_validity_seconds",
}
