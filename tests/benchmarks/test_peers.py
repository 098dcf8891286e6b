"""PyTorch's side of the comparison; without PyTorch, the error that says so."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks.peers import Peers
from dtnh_jax import GradientPair, dtnh
from experiments.errors import InputError


def test_without_pytorch_the_error_says_what_to_install(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else find(name),
    )
    with pytest.raises(InputError, match=r"needs torch.*pip install -e '\.\[peers\]'"):
        Peers(quick=True, out=tmp_path).run(Console(quiet=True))


@pytest.mark.parametrize("sign", [-1, 1])
def test_dtnh_is_the_one_sided_projection_of_pcgrad(sign):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchjd")
    from benchmarks.programs.torch_steps import without_conflict

    rng = np.random.default_rng(0)
    g = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (5,))]
    noise = [rng.standard_normal(x.shape).astype(np.float32) for x in g]
    r = [sign * x + 0.5 * n for x, n in zip(g, noise, strict=True)]

    pair = GradientPair(*([jnp.asarray(x) for x in half] for half in (g, r)))
    transformation = dtnh()
    ours, _ = transformation.update(pair, transformation.init(pair.empirical))

    theirs = without_conflict(*([torch.from_numpy(x) for x in half] for half in (r, g)))
    for d, x, rest in zip(ours, g, theirs, strict=True):
        np.testing.assert_allclose(d, x + rest.numpy(), rtol=1e-5, atol=1e-6)


def test_every_method_fills_in_every_gradient():
    torch = pytest.importorskip("torch")
    pytest.importorskip("qpsolvers")
    from benchmarks.programs.torch_steps import methods

    for name, method in methods().items():
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        head = torch.tensor([3.0], requires_grad=True)
        loss, penalty = (w.sum() * head).sum(), (w * w).sum()
        method(loss, penalty, [w, head])
        # The gradients [3, 3, 3] and [2, 4, 0] agree: the sum, but for UPGrad and
        # the others of TorchJD, which take a mean.
        assert w.grad is not None, name
        assert head.grad is not None, name
        if not name.startswith("TorchJD"):
            torch.testing.assert_close(w.grad, torch.tensor([5.0, 7.0]))
            torch.testing.assert_close(head.grad, torch.tensor([3.0]))
