"""The steps that are timed do what they are said to do, and the command runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import models, results, training
from benchmarks.amortized import AmortizedSteps
from benchmarks.step import Step
from experiments.errors import InputError

# Compiling a whole network takes most of a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _promotion(lenient_promotion):
    """AdamW in Optax needs JAX's own defaults."""


@pytest.fixture(scope="module")
def tiny():
    model = models.find("tiny")
    network = models.network(model, 8)
    return model, network, models.inputs(network, model.size())


def _params(step, network, inputs):
    (state,) = jax.jit(step)(models.start(step, network), inputs)
    return state.params


def _without_projection(monkeypatch):
    rule = training.dtnh
    monkeypatch.setattr(
        training, "dtnh", lambda *args, **kw: rule(*args, **kw, on_conflict="ignore")
    )


def _same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return all(
        np.allclose(x, y, rtol=1e-4, atol=1e-7) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    ("penalty", "teacher_in_step"),
    [("last map", False), ("all maps", True), ("logits", False)],
)
def test_without_projection_distillation_is_the_joint_loss(
    tiny, monkeypatch, penalty, teacher_in_step
):
    _without_projection(monkeypatch)
    _, network, inputs = tiny
    steps = training.distillation_steps(
        network,
        optax.sgd(0.1),
        training.PENALTIES[penalty],
        teacher_in_step=teacher_in_step,
    )
    joint = _params(steps["joint loss"], network, inputs)
    assert _same(_params(steps["dtnh, global"], network, inputs), joint)


def test_without_projection_l2_sp_is_what_is_written_by_hand(tiny, monkeypatch):
    _without_projection(monkeypatch)
    _, network, inputs = tiny
    steps = training.l2_sp_steps(network, optax.sgd(0.1))
    by_hand = _params(steps["by hand"], network, inputs)
    assert _same(_params(steps["dtnh, layer"], network, inputs), by_hand)
    assert not _same(_params(steps["no regularizer"], network, inputs), by_hand)


def test_images_give_tokens_and_logits(tiny):
    _, network, inputs = tiny
    (logits, maps), _ = network.student(*network.pretrained, inputs.images)
    assert logits.shape == (2, models.CLASSES)
    assert {name: x.shape for name, x in maps.items()} == {"block0": (2, 4, 8)}
    assert all(jnp.isfinite(x).all() for x in (logits, *maps.values()))


def test_the_command_in_quick_mode(tmp_path):
    Step(quick=True, out=tmp_path).run(Console(quiet=True))
    (record,) = results.read("step", tmp_path)
    assert any(row["target"] == 1.03 for row in record.rows)
    assert all(row["extra"]["FLOPs ratio"] > 0 for row in record.rows)


def test_amortized_steps_in_quick_mode(tmp_path):
    AmortizedSteps(quick=True, out=tmp_path).run(Console(quiet=True))
    (record,) = results.read("amortized", tmp_path)
    assert [row["ours"] for row in record.rows] == [
        *("measuring", "reusing", "k = 4", "k = 16", "reusing, conditional")
    ]


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="resnet18, resnet50, vit"):
        Step(networks=("vgg",), out=tmp_path).run(Console(quiet=True))
