"""Workers of pytest-xdist are forks, and their tests are what they would be in a process of their own."""

import os
import sys
from pathlib import Path

import pytest
from execnet import gateway_io
from execnet.gateway_base import get_execmodel
from execnet.xspec import XSpec

from tests import worker_forks


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux alone")
def test_this_worker_is_a_fork() -> None:
    """Were the process that imports the tests to end early, workers would start all the same, each with imports of its own."""
    if "PYTEST_XDIST_WORKER" not in os.environ or "JITTER" in os.environ:
        pytest.skip("no worker of pytest-xdist, or one that is not to be a fork")
    assert "worker_forks.main" in Path(f"/proc/{os.getppid()}/cmdline").read_text()


def test_what_an_assert_compared_is_told() -> None:
    """The tests are imported before a worker's pytest is there to rewrite them."""
    one = 1
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        assert one == 2


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux alone")
def test_without_the_process_that_forks_a_worker_starts_in_the_ordinary_way(tmp_path: Path) -> None:
    trunk = worker_forks.Trunk(["--no-such-option"], tmp_path)
    worker = trunk.create_io(XSpec("popen"), get_execmodel("thread"))
    try:
        assert type(worker) is gateway_io.Popen2IOMaster
    finally:
        worker.kill()
        worker.wait()
        for pipe in (worker.infile, worker.outfile):
            pipe.close()
        trunk.close()
