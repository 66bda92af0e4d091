"""Whether a provider fails for many at once: a pure state machine, fed with the outcomes of its calls.

Closed: pages go through it. It opens once many receivers have failed lately and hardly one was served. Open: pages go
around it, and now and then one of them tries it (the probe). The first call that began after it opened and was answered
closes it.

A receiver that fails again and again counts once, by its last call. So a single dead destination cannot open the
circuit of a provider that serves the others.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from tocsin_notify.domain.attempt import Outcome, Retryable


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When it opens and how often it is probed; all but `failures` and `served` are seconds.

    `failures`: receivers that have to fail, within `window`; 0: it never opens. `served`: of this many receivers that
    were called lately, at most one may have been served. `patience`: a provider that asks to wait no longer than that
    is alive. `probe`: before the first probe; doubled for each that fails, up to `probe_cap`. `longest`: a probe
    without an outcome for this time is dropped, and the next one is sent.
    """

    failures: int = 5
    served: int = 4
    window: float = 60.0
    patience: float = 30.0
    probe: float = 10.0
    probe_cap: float = 60.0
    longest: float = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """How the last call to one receiver ended, and when."""

    receiver: Hashable
    at: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one provider. Times are seconds of any clock that only goes forward."""

    heard: tuple[Heard, ...] = ()
    """While closed: the last calls, oldest first, one for each receiver. Empty when none of them failed."""
    opened: float | None = None
    wait: float = 0.0
    """Between the probe that failed last and the next one."""
    probe_at: float = 0.0
    probing: Hashable = None
    """The receiver of the probe that is under way."""

    @property
    def is_open(self) -> bool:
        """Whether pages go around the provider."""
        return self.opened is not None

    @property
    def since(self) -> float:
        """When it opened; of an open one."""
        if self.opened is None:
            raise ValueError("it is closed")
        return self.opened


class Way(Enum):
    """How a page that may use another method gets past the circuit."""

    THROUGH = auto()
    AROUND = auto()
    PROBE = auto()
    """Both: it tries the provider, and goes to the other method at the same time."""


CLOSED: Final = Circuit()


def says_it_fails(outcome: Outcome, policy: CircuitPolicy) -> bool | None:
    """What a call shows about its provider: that it fails, that it serves (a refusal for good is an answer), or nothing
    (None)."""
    if not isinstance(outcome, Retryable):
        return False
    if outcome.recipient or (outcome.after is not None and outcome.after <= policy.patience):
        return None
    return True


def hear(
    circuit: Circuit,
    receiver: Hashable,
    *,
    failed: bool,
    began: float,
    now: float,
    policy: CircuitPolicy,
    chance: float,
) -> Circuit:
    """The circuit after a call that `began` then has ended. `chance` is uniform in [0, 1): the jitter, from outside."""
    if circuit.opened is not None:
        return _hear_open(circuit, receiver, failed, began, now, policy, chance)
    lately = [each for each in circuit.heard if each.receiver != receiver and now - each.at < policy.window]
    if not failed and not any(each.failed for each in lately):
        return CLOSED
    heard = (*lately, Heard(receiver, now, failed))[-_remembered(policy) :]
    many = sum(each.failed for each in heard)
    if failed and 0 < policy.failures <= many and (len(heard) - many) * policy.served <= len(heard):
        return Circuit(opened=now, wait=policy.probe, probe_at=now + _jittered(policy.probe, chance))
    return Circuit(heard)


def ask(circuit: Circuit, receiver: Hashable, now: float, policy: CircuitPolicy) -> tuple[Way, Circuit]:
    """The way for a page to this receiver, and the circuit after that."""
    if circuit.opened is None:
        return Way.THROUGH, circuit
    if now < circuit.probe_at:
        return Way.AROUND, circuit
    return Way.PROBE, replace(circuit, probing=receiver, probe_at=now + policy.longest)


def _hear_open(
    circuit: Circuit,
    receiver: Hashable,
    failed: bool,
    began: float,
    now: float,
    policy: CircuitPolicy,
    chance: float,
) -> Circuit:
    assert circuit.opened is not None
    if began < circuit.opened:
        return circuit  # it began before the circuit opened
    if not failed:
        return CLOSED
    if receiver != circuit.probing:
        return circuit
    wait = min(policy.probe_cap, circuit.wait * 2)
    return replace(circuit, probing=None, wait=wait, probe_at=now + _jittered(wait, chance))


def _remembered(policy: CircuitPolicy) -> int:
    """Enough calls that the last ones alone can open it, and no more: it opens soon after a provider that served many
    begins to fail."""
    return max(1, policy.failures * 2)


def _jittered(wait: float, chance: float) -> float:
    """Between half of it and all of it, so that replicas do not probe at the same moment."""
    return wait * (1.0 + chance) / 2
