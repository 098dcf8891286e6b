"""Where a run starts: made once, from the cache of pretrained networks."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.trainer import names, start
from experiments.trainer.task import task_of


@pytest.mark.slow
def test_a_start_is_a_pretrained_body_and_a_new_head_and_is_made_once(made, tmp_path):
    found = []
    for seed in range(2):
        config = dataclasses.replace(made, out=tmp_path / f"{seed}", seed=seed)
        for _ in range(2):  # the second time it is there
            params, reference, digest = start.starting_point(config, task_of(config))
            found.append((names.flatten(params), digest))
        assert names.flatten(reference.params).keys() < names.flatten(params).keys()
        jax.tree.map(np.testing.assert_array_equal, found[-1], found[-2])
    (first, one), _, (second, other), _ = found
    assert one != other
    different = {key for key in first if not np.array_equal(first[key], second[key])}
    assert different == {"params.head.kernel"} or different == {"head.kernel"}
