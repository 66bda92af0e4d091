"""The cycle gc_tuning rests while a service is imported, and works again after that."""

import gc

import pytest
from tocsin_kit.gc_tuning import switched_off


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_works_again_after_the_imports(fails: bool) -> None:
    before = gc.get_freeze_count()
    try:
        with switched_off():
            assert not gc.isenabled()
            if fails:
                raise ImportError
    except ImportError:
        assert fails
    assert gc.isenabled()
    # It stays so: to thaw it would thaw all that the worker has imported, through which each later collection would look.
    assert gc.get_freeze_count() > before, "what was imported is never looked through again"
