"""The methods in PyTorch that the benchmark ``peers`` measures."""

import chex
import jax
import numpy as np
import pytest
import torch

from benchmarks.programs.torch_steps import spd, without_conflict
from dtnh_jax import GradientPair, project_conflict


@pytest.mark.parametrize("sign", [-1, 1])
def test_pcgrad_projects_as_dtnh(sign):
    rng = np.random.default_rng(0)
    g, noise = ([rng.normal(size=(3, 4)), rng.normal(size=2)] for _ in range(2))
    r = [sign * x + 0.5 * n for x, n in zip(g, noise, strict=True)]
    pair = jax.tree.map(np.float32, GradientPair(g, r))
    g, r = ([torch.asarray(x) for x in half] for half in pair)
    found = [x.numpy() for x in without_conflict(r, g)]
    expected = project_conflict(pair)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("gradient", "expected"), [(-1.0, 2.0), (1.0, 1.9)])
def test_spd_takes_a_step_away_from_the_anchor_back(gradient, expected):
    """Weight 2, anchor 1, a step of 0.1: away from the anchor to 2.1, and by 0.1/1.1
    of the way back; towards it to 1.9, and nothing more."""
    w = torch.tensor([2.0], requires_grad=True)
    w.grad = torch.tensor([gradient])
    spd(torch.optim.SGD([w], lr=0.1), [w], [torch.tensor([1.0])])
    torch.testing.assert_close(w.detach(), torch.tensor([expected]))
