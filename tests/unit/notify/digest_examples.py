"""A digest with something of everything."""

from datetime import UTC, datetime, timedelta

from tocsin_notify.domain.digest import Frequency
from tocsin_notify.domain.digest_content import Content, Noise, OpenIncident, Shift

END = datetime(2026, 11, 27, 7, tzinfo=UTC)
DAY = timedelta(days=1)
FULL = Content(
    Frequency.DAILY,
    END - DAY,
    END,
    "Europe/Berlin",
    opened=14,
    answer_seconds=252.0,
    resolved=12,
    open=3,
    unanswered=1,
    open_incidents=(
        OpenIncident("Disk full on db-1.frankfurt.example.com", "critical", END - 9 * DAY, in_hand=True),
        OpenIncident("Certificate of <api> ends & nobody renews it", "warning", END - 2 * DAY, in_hand=False),
    ),
    noisiest=(
        Noise("KubePodCrashLooping checkout-7c9f8d6b5f-x2x8q in namespace production-payments", 9, 431),
        Noise("Latency of checkout", 1, 1),
    ),
    pages=4,
    acknowledged=2,
    shifts=(
        Shift("Web, first level", END, END + DAY),
        Shift("Databases", END + 4 * DAY, END + 11 * DAY),
    ),
)
EMPTY = Content(Frequency.DAILY, END - DAY, END, "Europe/Berlin")
