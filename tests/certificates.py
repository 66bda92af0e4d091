"""Certificates for tests of TLS."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tocsin_stack import certificates
from tocsin_stack.certificates import Certificates as Certificates


def make_certificates(folder: Path, *names: str, key: Any = None, minutes: float = 60.0) -> Certificates:
    """An authority and one certificate of it for 127.0.0.1 and these names. `key`: of the certificate.

    They have been valid for an hour, and are for so many more `minutes`; negative: they have expired.
    """
    now = datetime.now(UTC)
    begins, ends = now - timedelta(hours=1), now + timedelta(minutes=minutes)
    return certificates.make(folder, names, begins=begins, ends=ends, key=key)
