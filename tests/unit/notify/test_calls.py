"""What the end of a call proves: a person was reached, or no one."""

import itertools

import pytest
from tocsin_notify.domain.calls import answered_by, ended
from tocsin_notify.domain.evidence import Evidence
from tocsin_notify.domain.page import DeathReason

STATUSES = ("completed", "busy", "no-answer", "failed", "canceled")
WHO = ("", "human", "machine_start", "machine_end_beep", "machine_end_silence", "machine_end_other", "fax", "unknown")


@pytest.mark.parametrize(("status", "who"), list(itertools.product(STATUSES, WHO)))
def test_only_a_person_is_reached(status: str, who: str) -> None:
    for attempt in (1, 2, 3):
        verdict = ended(status, who, "486", attempt)
        assert verdict is not None
        if (status, who) == ("completed", "human"):
            assert verdict.evidence is Evidence.DELIVERED
            continue
        assert verdict.evidence is Evidence.FAILED
        assert verdict.reason
        last = verdict.death is DeathReason.PERMANENT_FAILURE
        assert last is (attempt >= 2)


def test_a_number_that_does_not_exist_is_not_called_again() -> None:
    verdict = ended("failed", "", "604", 1)
    assert verdict is not None
    assert (verdict.death, verdict.code) == (DeathReason.PERMANENT_FAILURE, "failed 604")


def test_unknown_words_of_a_provider_say_nothing() -> None:
    assert ended("queued-again", "human", "", 1) is None
    assert answered_by("unknown", 1) is None
    assert answered_by("", 1) is None
