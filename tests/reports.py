"""What a worker of pytest-xdist tells the process that prints."""

from collections.abc import Sequence

import pytest
from _pytest.runner import runtestprotocol


def of_interest(reports: Sequence[pytest.TestReport]) -> Sequence[pytest.TestReport]:
    """The call alone of a test that passed; all phases of one that did not, since they are printed together.

    Each report costs both processes half a millisecond, and nothing is printed of a set-up or teardown that passed.
    """
    return [report for report in reports if report.when == "call"] if all(each.passed for each in reports) else reports


def run(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """As pytest's own `pytest_runtest_protocol`, in a worker. None: leave it to pytest."""
    option = item.config.option
    if not hasattr(item.config, "workerinput") or option.durations is not None or option.xmlpath is not None:
        return None  # no reader, or a reader who asks how long each phase took
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in of_interest(runtestprotocol(item, log=False, nextitem=nextitem)):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
