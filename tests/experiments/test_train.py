"""The training loop, and what the methods come to in it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.demo.compared import ARMS
from experiments.errors import InputError
from experiments.finetune import few_shot_target, finetune
from experiments.methods import method
from experiments.recipe import Recipe, batch_order

# Each other number of steps, batch size or method is a program more to compile.
RECIPE = Recipe(steps=40, batch_size=6, learning_rate=0.05)


@pytest.fixture(scope="module")
def run(small, untrained, stripes):
    """Runs one cell on three seeds of the small task."""
    target = few_shot_target(stripes, 4, 3)

    def cell(name, weight=None, recipe=RECIPE, target=target):
        return finetune(small, "nothing", untrained, name, weight, recipe, target)

    return cell


FAST = ("l2", "dtnh-global", "kd-layer")


@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in (*ARMS, "dtnh-global", "average", "inner-guarded")
    ],
)
def test_at_weight_zero_every_method_is_plain_fine_tuning(run, name):
    plain, other = run("plain"), run(name, 0.0)
    np.testing.assert_allclose(other.trace.loss, plain.trace.loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(other.accuracy, plain.accuracy)


def test_methods_differ_where_there_is_a_weight(run):
    losses = [run(name, 1.0).trace.loss for name in ("l2", "l2-sp", "dtnh-global")]
    for i, loss in enumerate(losses):
        for other in losses[:i]:
            assert not np.allclose(loss, other, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns(run, optimizer):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=0.03)
    losses = run("plain", recipe=recipe).trace.loss
    assert losses.shape == (3, 40)
    assert (losses[:, -5:].mean(axis=1) < 0.6 * losses[:, 0]).all()


def test_the_trace_has_every_step_and_group(run):
    cell = run("kd-layer", 0.5)
    assert cell.groups == ("conv1", "conv2", "conv3", "dense", "head")
    assert cell.trace.cosine.shape == cell.trace.conflict.shape == (3, 40, 5)
    np.testing.assert_array_equal(cell.trace.conflict, cell.trace.cosine < 0)
    assert np.abs(cell.trace.cosine).max() <= 1 + 1e-6
    # Before the first update the body lies where the regularizer wants it.
    assert not cell.trace.cosine[:, 0, :4].any()
    assert run("dtnh-global", 0.5).groups == ("global",)
    assert run("plain").groups == ()


def test_seeds_differ_and_runs_repeat(run):
    cell, again = run("l2-sp", 0.1), run("l2-sp", 0.1)
    np.testing.assert_array_equal(cell.trace.loss, again.trace.loss)
    assert len({tuple(loss) for loss in cell.trace.loss}) == 3


def test_each_epoch_sees_every_image_once():
    members = jnp.arange(100, 112, dtype=jnp.int32)
    order = batch_order(jax.random.key(0), members, Recipe(steps=5, batch_size=6))
    assert order.shape == (5, 6)
    for epoch in (order[0:2], order[2:4]):
        assert sorted(np.ravel(epoch).tolist()) == list(range(100, 112))
    assert not np.array_equal(order[0:2], order[2:4])


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="batch of 6 images does not fit into 5"):
        batch_order(jax.random.key(0), jnp.arange(5), Recipe(steps=1, batch_size=6))


def test_a_loss_that_is_not_finite_stops_the_run(run, stripes):
    target = few_shot_target(stripes, 4, 3)
    images = stripes.images.copy()
    images[target.train[1, 7]] = np.nan
    broken = dataclasses.replace(stripes, images=images)
    with pytest.raises(
        FloatingPointError, match=r"plain fine-tuning .* not finite at step \d;"
    ):
        run("plain", target=dataclasses.replace(target, dataset=broken))


def test_bad_requests_say_what_would_do():
    with pytest.raises(InputError, match="known: plain, l2, l2-sp, dtnh-global"):
        method("l2sp")
    with pytest.raises(InputError, match="known: sgd, adam"):
        Recipe(optimizer="lion")
    with pytest.raises(InputError, match="steps must be positive, got 0"):
        Recipe(steps=0)


def test_the_parts_of_a_target_have_no_image_in_common(stripes):
    target = few_shot_target(stripes, 4, 3, validation_per_class=5, test=20)
    assert target.validation is not None
    for parts in zip(target.train, target.validation, target.test, strict=True):
        assert [part.size for part in parts] == [12, 15, 20]
        assert len(set(np.concatenate(parts).tolist())) == 12 + 15 + 20
        for part, each in zip(parts, (4, 5), strict=False):
            assert np.bincount(stripes.labels[part]).tolist() == [each] * 3
    # The test images are drawn, not the first ones of a class.
    assert len(set(stripes.labels[target.test[0]])) == 3


def test_the_network_is_the_one_that_was_best_on_validation(run, stripes):
    target = few_shot_target(stripes, 4, 3, validation_per_class=5)
    found = run("plain", target=target)
    assert found.validation is not None
    assert found.validation.shape == (10, 3)
    curve = found.validation.mean(axis=1)
    assert found.step == 4 + 4 * int(np.argmax(curve)) < 40
    # The order of the images does not depend on how many steps there are.
    stopped = run(
        "plain",
        recipe=dataclasses.replace(RECIPE, steps=found.step),
        target=dataclasses.replace(target, validation=None),
    )
    np.testing.assert_array_equal(found.accuracy, stopped.accuracy)
    assert len(set(curve.tolist())) > 1
