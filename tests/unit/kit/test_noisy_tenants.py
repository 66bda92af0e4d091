"""Which tenants are noisy: those that bring more than others should wait for, as long as they do."""

import pytest
from tocsin_kit import noisy_tenants
from tocsin_kit.noisy_tenants import BURST, RATE, NoisyTenants


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_tenant_is_noisy_while_it_brings_more_than_the_rate_and_for_a_moment_after_that() -> None:
    clock = Clock()
    seen = NoisyTenants(clock=clock)
    for _ in range(100):
        seen.note("steady", int(RATE / 10))
        seen.note("storm", int(RATE))
        clock.now += 0.1
    assert "storm" in seen
    assert "steady" not in seen
    assert "never seen" not in seen
    clock.now += BURST / RATE + 0.1
    assert "storm" not in seen, "however much it was"


def test_a_burst_makes_no_noisy_tenant_and_what_is_beyond_it_does() -> None:
    seen = NoisyTenants(clock=Clock())
    seen.note("a", int(BURST))
    assert "a" not in seen
    seen.note("a")
    assert "a" in seen


def test_noisy_tenants_are_remembered_when_there_are_more_tenants_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_tenants, "_SIZE", 10)
    seen = NoisyTenants(clock=Clock())
    seen.note("storm", 1000)
    for number in range(100):
        seen.note(f"small-{number}")
    assert "storm" in seen
    assert len(seen) <= 10
