"""A layer is kept as it was written."""

from dataclasses import replace
from random import Random

from tocsin_escalation.domain.schedules.model import Layer
from tocsin_escalation.store.schedules.schedules import layers_from_json, layers_to_json

from tests.unit.escalation.schedules.random_schedules import random_schedule


def test_every_layer_comes_back_as_it_was() -> None:
    for seed in range(300):
        schedule, _, _ = random_schedule(Random(seed), 3)
        written = tuple(map(_without_days, schedule.layers))
        assert layers_from_json(layers_to_json(schedule.layers)) == written


def _without_days(layer: Layer) -> Layer:
    """The package knows no place that is called XX, and the days are not kept."""
    return replace(layer, holidays=layer.holidays and replace(layer.holidays, days=frozenset()))
