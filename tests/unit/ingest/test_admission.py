"""What a batch may send is what its alerts may send one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.app.alerts.admission import ALERTS, Admission
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.rate_limit import NEW, REPEATED, RateLimit
from tocsin_kit.budgets import OUTBOX_ROWS, Budgets, Limit, per_second
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics

from tests.rounds import examples
from tests.unit.ingest.model import ORG, message


def budgets(allowed: int) -> Budgets:
    return Budgets((per_second(ALERTS, allowed), Limit(OUTBOX_ROWS, 10)), Metrics(), clock=lambda: 0.0)


POOL = [Entry(ORG, message(key, integration=of)) for key in "abcd" for of in ("prom", "grafana")]
POOL += [Entry(ORG, message("a"))]  # the same alert in other words
batches = st.lists(st.lists(st.sampled_from(POOL), max_size=20), min_size=1, max_size=4)


@settings(max_examples=examples(400), deadline=None)
@given(batches, st.integers(1, 8), st.integers(1, 2))
def test_a_batch_is_admitted_as_its_alerts_are_one_by_one(given: list[list[Entry]], burst: int, allowed: int) -> None:
    now = [0.0]
    both = [(budgets(allowed), RateLimit(1.0, burst, Metrics(), clock=lambda: now[0])) for _ in range(2)]
    together, single = (Admission(*each) for each in both)
    for second, batch in enumerate(given):
        now[0] = float(second)
        refusals = together.admit_all(batch)
        expected: list[TocsinError | None] = []
        for entry in batch:
            try:
                single.admit(entry)
                expected.append(None)
            except TocsinError as error:
                expected.append(error)
        found = list(refusals) or [None] * len(batch)
        assert [each and each.message for each in found] == [each and each.message for each in expected]
        # Sums in another order differ in their last digits.
        waits = [[each.retry_after for each in those if each is not None] for those in (found, expected)]
        assert waits[0] == pytest.approx(waits[1], abs=1e-5)
    used = [each.used(ORG, ALERTS) for each, _ in both]
    assert used[0] == pytest.approx(used[1], abs=1e-5)
    for of in ("prom", "grafana"):
        left = [[limit.budgets.used(f"{ORG}/{of}", name) for name in (NEW, REPEATED)] for _, limit in both]
        assert left[0] == pytest.approx(left[1], abs=1e-5)


def test_alerts_are_refused_while_too_much_waits_for_the_next_service() -> None:
    held = budgets(1000)
    held.note_rows({ORG: 10})
    refusals = Admission(held, RateLimit(1000, 1000, Metrics())).admit_all(POOL[:3])
    assert [each.metadata["limit"] for each in refusals if each] == [OUTBOX_ROWS] * 3
    assert held.refused(ORG, OUTBOX_ROWS) == 3
