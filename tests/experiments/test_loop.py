"""The loop against Optax by hand, and what must not change a result."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_task

from dtnh_jax import conflict_report
from experiments import cell, networks
from experiments.errors import InputError
from experiments.methods import FEATURE_SCALE, HEAD_DECAY, method
from experiments.recipe import batch_order
from experiments.training import augment, delta, evaluate, loop
from experiments.training.loop import fit
from experiments.training.step import cross_entropy

SPEC, RECIPE = small_task.SMALL, small_task.RECIPE
SHORT = dataclasses.replace(RECIPE, steps=10)


def _close(found, expected, rtol=1e-5):
    def one(x, y):
        np.testing.assert_allclose(x, y, rtol, rtol * np.abs(y).max())

    jax.tree.map(one, found, expected)


_same = functools.partial(jax.tree.map, np.testing.assert_array_equal)


def _seed(tree, seed):
    return jax.tree.map(lambda x: x[seed], tree)


@pytest.fixture(scope="module")
def pair():
    return small_task.pair()


@pytest.fixture(scope="module")
def fitted():
    """The task of `small_task`, with L2-SP and validation."""
    with jax.numpy_dtype_promotion("standard"):
        return fit(small_task.job())


def _penalty(name, params, start, images):
    if name == "kd/sum":
        found, wanted = (SPEC.build(x).features(images) for x in (params, start))
        squares = [
            0.5 * jnp.sum((found[k] - wanted[k]) ** 2) / len(images) for k in found
        ]
        return FEATURE_SCALE * sum(squares)
    if name == "plain":
        return 0.0
    head = sum(jnp.sum(x**2) for x in jax.tree.leaves(params["head"]))
    moved = optax.tree.sub(params, start)
    body = sum(jnp.sum(x**2) for k in moved if k != "head" for x in moved[k].values())
    return 0.5 * (body + HEAD_DECAY * head)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("plain", "adam"), ("l2-sp/sum", "sgd"), ("kd/sum", "sgd")]
)
def test_a_run_is_what_plain_optax_does_with_loss_plus_penalty(pair, name, optimizer):
    recipe = dataclasses.replace(SHORT, optimizer=optimizer, falls_at=0.5)
    job = dataclasses.replace(pair.job(method(name), 0.5, recipe), validation=None)
    found = fit(job)
    assert (found.step, found.validation) == (10, None)

    seed = 1
    start = params = _seed(job.params, seed)
    rate = optax.piecewise_constant_schedule(RECIPE.learning_rate, {5: 0.1})
    tx = {"adam": optax.adam(rate), "sgd": optax.sgd(rate, momentum=0.9)}[optimizer]
    state, losses = tx.init(params), []

    @jax.jit
    def value_and_grad(params, images, labels):
        def total(params):
            loss = cross_entropy(networks.logits(SPEC.build(params), images), labels)
            return loss + 0.5 * _penalty(name, params, start, images), loss

        return jax.value_and_grad(total, has_aux=True)(params)

    for rows in batch_order(job.keys[seed], jnp.asarray(job.train[seed]), recipe):
        batch = job.dataset.images[rows], job.dataset.labels[rows]
        (_, loss), grads = value_and_grad(params, *batch)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss)
    _close(_seed(found.params, seed), params)
    _close(found.trace.loss[seed], np.array(losses))


def test_a_run_repeats_and_its_start_stays(fitted):
    job = small_task.job()
    _same(fit(job), fitted)
    _same(job.params, small_task.params())


def test_seeds_are_independent(fitted):
    job = small_task.job()
    for seed in range(2):
        one = slice(seed, seed + 1)
        parts = _seed((job.params, job.train, job.keys), one)
        alone = fit(
            dataclasses.replace(
                job, params=parts[0], train=parts[1], keys=parts[2], validation=None
            )
        )
        _close(alone.trace.loss, fitted.trace.loss[one], 1e-4)
        _close(_seed(alone.opt_state, 0), _seed(fitted.opt_state, seed), 1e-4)
    assert not np.allclose(*fitted.trace.loss, rtol=1e-2)


def test_pieces_of_a_chunk_do_not_change_the_result(fitted, monkeypatch):
    monkeypatch.setattr(loop, "PIECE_BYTES", small_task.PIECE_BYTES)
    shares, job = [], small_task.job()
    assert (job.chunk, job.piece) == (4, 2)
    found = fit(job, shares.append)
    _same(found.validation, fitted.validation)
    _close(found.params, fitted.params)
    _close(found.trace.loss, fitted.trace.loss)
    np.testing.assert_allclose(shares, [0] + 20 * [1 / 20])


@pytest.mark.parametrize(("steps", "chunk"), [(200, 20), (97, 97), (36, 4), (1, 1)])
def test_chunks_divide_the_run(steps, chunk):
    job = small_task.job()
    job = dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, steps=steps))
    assert job.chunk == job.piece == chunk


def test_the_trace_is_of_all_steps_and_groups(fitted):
    trace = fitted.trace
    assert list(conflict_report(fitted.opt_state))[-1] == "head"
    assert trace.cosine.shape == trace.conflict.shape == trace.pull.shape == (2, 40, 5)
    np.testing.assert_array_equal(trace.conflict, trace.cosine < 0)
    # Before the first update the body is where the regularizer wants it.
    assert not trace.cosine[:, 0, :4].any()
    assert np.isfinite(np.concatenate([x.ravel() for x in trace])).all()
    assert (trace.loss[:, -8:].mean(1) < 0.8 * trace.loss[:, :4].mean(1)).all()


def test_the_best_on_validation_is_kept_the_first_of_equals(fitted, pair):
    curve = fitted.validation.mean(axis=1)
    assert len(set(curve)) < len(curve) == 10
    assert fitted.step == 4 + 4 * int(np.argmax(curve)) < 40
    recipe = dataclasses.replace(RECIPE, steps=fitted.step)
    job = pair.job(method("l2-sp/layer"), 1.0, recipe)
    stopped = fit(dataclasses.replace(job, validation=None))
    _close(stopped.params, fitted.params)
    shares = evaluate.probabilities(
        SPEC, fitted.params, job.dataset, small_task.job().validation
    )
    found = evaluate.right(shares, job.dataset, small_task.job().validation)
    np.testing.assert_array_equal(
        np.float32(found), fitted.validation[fitted.step // 4 - 1]
    )


@pytest.mark.parametrize("where", ["images", "rate"])
def test_a_run_that_diverges_stops_and_says_where(pair, where):
    job = pair.job(method("plain"), None, RECIPE)
    if where == "images":
        images = job.dataset.images.copy()
        images[job.train[1, 7]] = np.nan
        dataset = dataclasses.replace(job.dataset, images=images)
        job = dataclasses.replace(job, dataset=dataset)
    else:
        recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
        job = dataclasses.replace(job, recipe=recipe)
    with pytest.raises(
        FloatingPointError, match=r"plain fine-tuning .* on stripes .* finite at step"
    ):
        fit(job)


def test_evaluation_in_parts_is_that_of_the_whole(pair, monkeypatch):
    members = pair.target.test
    found = evaluate.probabilities(SPEC, pair.params, pair.target.dataset, members)
    monkeypatch.setattr(evaluate, "BATCH", 7)
    parts = evaluate.probabilities(SPEC, pair.params, pair.target.dataset, members)
    assert found.shape == (2, 20, 3)
    _close(parts, found)


def test_a_cell_without_validation_trains_to_the_end(pair):
    target = dataclasses.replace(pair.target, validation=None)
    pair = dataclasses.replace(pair, target=target)
    job = pair.job(method("kd/layer"), 0.5, dataclasses.replace(RECIPE, steps=200))
    record = cell.train(job, target)
    assert record["step"] == 200
    assert len(record["accuracy"]) == 2
    assert np.mean(record["accuracy"]) > 70
    assert len(record["loss"]) == cell.POINTS == len(record["pull"])
    assert record["groups"] == ["conv1", "conv2", "conv3", "dense", "head"]
    assert 0 < record["conflict_rate"] < 1
    assert "validation" not in record


def test_the_parts_of_a_target_have_no_image_in_common(stripes):
    target = cell.few_shot_target(stripes, 4, 3, validation_per_class=5, test=20)
    for parts in zip(target.train, target.validation, target.test, strict=True):
        assert [part.size for part in parts] == [12, 15, 20]
        assert len(set(np.concatenate(parts).tolist())) == 12 + 15 + 20
        for part, each in zip(parts, (4, 5), strict=False):
            assert np.bincount(stripes.labels[part]).tolist() == [each] * 3
    assert not np.array_equal(target.train[0], target.train[1])
    with pytest.raises(InputError, match="at most 19"):
        cell.few_shot_target(stripes, 15, 3, validation_per_class=5)


# Every pixel has a number of its own.
IMAGE = np.arange(6 * 7, dtype=np.int32).reshape(1, 6, 7, 1)


def test_random_crops_are_parts_mirrored_or_not():
    images = jnp.broadcast_to(jnp.asarray(IMAGE), (200, 6, 7, 1))
    crops = np.asarray(augment.random_crops(jax.random.key(0), images, 4))
    corners, mirrored = set(), 0
    for crop in crops[..., 0]:
        flipped = crop[0, 0] > crop[0, -1]
        upright = crop[:, ::-1] if flipped else crop
        top, left = divmod(int(upright[0, 0]), 7)
        np.testing.assert_array_equal(upright, IMAGE[0, top:, left:, 0][:4, :4])
        corners.add((top, left))
        mirrored += flipped
    assert len(corners) == 3 * 4  # all there are
    assert 70 < mirrored < 130
    part = augment.middle(IMAGE, 4)
    np.testing.assert_array_equal(part[0, :, :, 0], IMAGE[0, 1:5, 1:5, 0])


def test_a_run_on_crops_keeps_the_order_of_the_images(pair):
    """Of images whose parts are all alike, a run on crops is one on the whole."""
    labels = pair.target.dataset.labels
    flat = np.broadcast_to(labels[:, None, None, None] / 4, (60, 7, 7, 1))
    dataset = dataclasses.replace(pair.target.dataset, images=np.float32(flat))
    job = pair.job(method("plain"), None, dataclasses.replace(SHORT, crop=4))
    cropped = dataclasses.replace(job, dataset=dataset)
    whole = dataclasses.replace(
        job,
        dataset=dataclasses.replace(dataset, images=dataset.images[:, 1:5, 1:5]),
        recipe=SHORT,
    )
    _close(fit(cropped), fit(whole))
    noisy = dataset.images + np.random.default_rng(0).normal(0, 0.1, (60, 7, 7, 1))
    dataset = dataclasses.replace(dataset, images=np.float32(noisy))
    found = fit(dataclasses.replace(job, dataset=dataset))
    middle = dataclasses.replace(dataset, images=augment.middle(dataset.images, 4))
    other = fit(dataclasses.replace(whole, dataset=middle))
    assert not np.allclose(found.trace.loss, other.trace.loss, rtol=1e-3)


def test_delta_with_weights_of_one_is_kd(pair):
    kd = pair.job(method("kd/layer"), 1.0, SHORT)
    shapes = jax.eval_shape(
        lambda x: SPEC.build(x).features(kd.dataset.images), _seed(kd.params, 0)
    )
    ones = {name: jnp.ones((2, x.shape[-1])) for name, x in shapes.items()}
    alike = dataclasses.replace(kd, method=method("delta/layer"), channel_weights=ones)
    expected = fit(kd)
    _close(fit(alike).params, expected.params)
    found = fit(pair.job(method("delta/layer"), 1.0, SHORT))
    assert not np.allclose(found.trace.pull, expected.trace.pull, rtol=1e-3)


def test_channel_weights_follow_from_the_loss_without_each_channel(pair):
    """The gate of a channel against zeroing the parameters that make the channel."""
    target, seed = pair.target, 1
    for name, values in pair.channel_weights.items():
        assert values.shape == (2, pair.params[name]["bias"].shape[1])
        np.testing.assert_allclose(values.mean(axis=1), 1, rtol=1e-5)
    rows = target.train[seed]
    images, labels = target.dataset.images[rows], target.dataset.labels[rows]
    own = _seed(pair.params, seed)
    own = {**own, "head": delta._trained_head(SPEC, own, images, labels)}

    @jax.jit
    def loss(params):
        return cross_entropy(networks.logits(SPEC.build(params), images), labels)

    assert loss(own) < 0.8 * np.log(3)  # the head has learned
    for name in ("conv2", "dense"):
        rises = []
        for channel in range(own[name]["bias"].size):
            mask = np.arange(own[name]["bias"].size) != channel
            without = {
                k: x * mask.reshape((1,) * (x.ndim - 1) + (-1,))
                for k, x in own[name].items()
            }
            rises.append(loss({**own, name: without}) - loss(own))
        wanted = len(rises) * jax.nn.softmax(jnp.stack(rises))
        np.testing.assert_allclose(pair.channel_weights[name][seed], wanted, rtol=1e-4)
        assert np.ptp(wanted) > 1e-3
