"""The steps that are timed do what they are said to do, and the command runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import records
from benchmarks.programs import steps
from benchmarks.programs.models import CLASSES, Size
from benchmarks.programs.workload import workload
from benchmarks.step import Step
from experiments.errors import InputError

# Compiling a whole network takes most of a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _promotion(lenient_promotion):
    """AdamW in Optax needs JAX's own defaults."""


@pytest.fixture(scope="module")
def tiny():
    return workload("tiny", Size(8, 2))


def _params(load, step):
    (state,) = jax.jit(step)(load.start(step), load.inputs)
    return state.params


def _without_projection(monkeypatch):
    rule = steps.dtnh
    monkeypatch.setattr(
        steps, "dtnh", lambda *args, **kw: rule(*args, **kw, on_conflict="ignore")
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
    found = steps.distillation_steps(
        tiny.network,
        optax.sgd(0.1),
        steps.PENALTIES[penalty],
        teacher_in_step=teacher_in_step,
    )
    joint = _params(tiny, found["joint loss"])
    assert _same(_params(tiny, found["dtnh, global"]), joint)


def test_without_projection_l2_sp_is_what_is_written_by_hand(tiny, monkeypatch):
    _without_projection(monkeypatch)
    found = steps.l2_sp_steps(tiny.network, optax.sgd(0.1))
    by_hand = _params(tiny, found["by hand"])
    assert _same(_params(tiny, found["dtnh, layer"]), by_hand)
    assert not _same(_params(tiny, found["no regularizer"]), by_hand)


def test_the_anchor_is_in_the_optimizer_state(tiny):
    """And thus an argument of the compiled step; a new head has none."""
    step = steps.l2_sp_steps(tiny.network, optax.sgd(0.1))["dtnh, global"]
    params, _ = tiny.network.pretrained
    anchor = tiny.start(step).opt_state[0].anchor
    assert anchor["head"] == dict.fromkeys(params["head"])
    body = {name: x for name, x in params.items() if name != "head"}
    assert _same({name: anchor[name] for name in body}, body)
    constants = jax.make_jaxpr(step)(tiny.start(step), tiny.inputs).consts
    numbers = [x for x in constants if jnp.issubdtype(x.dtype, jnp.inexact)]
    assert all(x.size == 1 for x in numbers)  # one per group: there is one


def test_images_give_tokens_and_logits(tiny):
    network = tiny.network
    (logits, maps), _ = network.student(*network.pretrained, tiny.inputs.images)
    assert logits.shape == (2, CLASSES)
    assert {name: x.shape for name, x in maps.items()} == {"block0": (2, 4, 8)}
    assert all(jnp.isfinite(x).all() for x in (logits, *maps.values()))


def test_the_command_in_quick_mode(tmp_path):
    Step(quick=True, out=tmp_path).run(Console(quiet=True))
    (record,) = records.read("step", tmp_path)
    target = 1.08 if jax.default_backend() == "cpu" else 1.03
    assert any(row["target"] == target for row in record.rows)
    assert all(row["extra"]["FLOPs ratio"] > 0 for row in record.rows)


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="resnet18, resnet50, vit"):
        Step(networks=("vgg",), out=tmp_path).run(Console(quiet=True))
