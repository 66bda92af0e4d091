"""A layer is kept as it was written."""

from random import Random

from tocsin_escalation.store.schedules import layers_from_json, layers_to_json

from tests.unit.escalation.schedules.random_schedules import random_schedule


def test_every_layer_comes_back_as_it_was() -> None:
    for seed in range(300):
        schedule, _, _ = random_schedule(Random(seed), 3)
        assert layers_from_json(layers_to_json(schedule.layers)) == schedule.layers
