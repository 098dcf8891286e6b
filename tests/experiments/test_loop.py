"""The loop against Optax by hand, and what must not change a result."""

import dataclasses

import chex
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
from experiments.training import job as jobs
from experiments.training.loop import fit
from experiments.training.step import cross_entropy

SPEC, RECIPE = small_task.SMALL, small_task.RECIPE
SHORT = dataclasses.replace(RECIPE, steps=20)

_replace = dataclasses.replace


def _close(found, expected, rtol=1e-5):
    def one(x, y):
        np.testing.assert_allclose(x, y, rtol, rtol * np.abs(y).max())

    jax.tree.map(one, found, expected)


def _seed(tree, seed):
    return jax.tree.map(lambda x: x[seed], tree)


@pytest.fixture(scope="module")
def pair():
    return small_task.pair()


@pytest.fixture(scope="module")
def fitted():
    """The task of `small_task`, with L2-SP and validation."""
    return fit(small_task.job())


def _penalty(name, params, start, images):
    if name == "kd/sum":
        found, wanted = (SPEC.build(x).features(images) for x in (params, start))
        squares = sum(jnp.sum((found[k] - wanted[k]) ** 2) for k in found)
        return 0.5 * FEATURE_SCALE * squares / len(images)
    head = sum(jnp.sum(x**2) for x in jax.tree.leaves(params["head"]))
    moved = optax.tree.sub(params, start)
    body = sum(jnp.sum(x**2) for k in moved if k != "head" for x in moved[k].values())
    return 0.5 * (body + HEAD_DECAY * head)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("kd/sum", "sgd"), pytest.param("l2-sp/sum", "adam", marks=pytest.mark.slow)],
)
def test_a_run_is_what_plain_optax_does_with_loss_plus_penalty(pair, name, optimizer):
    recipe = _replace(SHORT, optimizer=optimizer, falls_at=0.5)
    job = _replace(pair.job(method(name), 0.5, recipe), validation=None)
    found = fit(job)
    assert (found.step, found.validation) == (20, None)

    seed = 1
    start = params = _seed(job.params, seed)
    rate = optax.piecewise_constant_schedule(RECIPE.learning_rate, {10: 0.1})
    tx = {"adam": optax.adam(rate), "sgd": optax.sgd(rate, momentum=0.9)}[optimizer]
    state, losses = tx.init(params), []

    @jax.jit
    def step(params, state, images, labels):
        def total(params):
            loss = cross_entropy(networks.logits(SPEC.build(params), images), labels)
            return loss + 0.5 * _penalty(name, params, start, images), loss

        (_, loss), grads = jax.value_and_grad(total, has_aux=True)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for rows in batch_order(job.keys[seed], jnp.asarray(job.train[seed]), recipe):
        batch = job.dataset.images[rows], job.dataset.labels[rows]
        params, state, loss = step(params, state, *batch)
        losses.append(loss)
    _close(_seed(found.params, seed), params)
    _close(found.trace.loss[seed], np.array(losses))


def test_a_seed_does_not_depend_on_the_others(fitted):
    job = small_task.job()
    second = np.array([1, 1])
    params, train, keys = jax.tree.map(
        lambda x: x[second], (job.params, job.train, job.keys)
    )
    twice = fit(_replace(job, params=params, train=train, keys=keys))
    for seed in (0, 1):
        _close(twice.trace.loss[seed], fitted.trace.loss[1])
        _close(_seed(twice.opt_state, seed), _seed(fitted.opt_state, 1))
    assert not np.allclose(*fitted.trace.loss, rtol=1e-2)
    chex.assert_trees_all_equal(fit(job), fitted)
    # Although `fit` reuses memory.
    chex.assert_trees_all_equal(job.params, small_task.params())


def test_pieces_of_a_chunk_do_not_change_the_result(fitted, monkeypatch):
    shares, job = [], small_task.job()
    assert job.chunk == job.piece == 4
    monkeypatch.setattr(jobs, "PIECE_BYTES", small_task.PIECE_BYTES)
    assert (job.chunk, job.piece) == (4, 2)
    found = fit(job, shares.append)
    chex.assert_trees_all_equal(found.validation, fitted.validation)
    _close(found.params, fitted.params)
    _close(found.trace.loss, fitted.trace.loss)
    np.testing.assert_allclose(shares, [0] + 20 * [1 / 20])


def test_the_trace_is_of_all_steps_and_groups(fitted):
    trace = fitted.trace
    assert list(conflict_report(fitted.opt_state))[-1] == "head"
    assert trace.cosine.shape == trace.conflict.shape == trace.pull.shape == (2, 40, 5)
    np.testing.assert_array_equal(trace.conflict, trace.cosine < 0)
    # Before the first update the body is where the regularizer wants it.
    assert not trace.cosine[:, 0, :4].any()
    assert (trace.loss[:, -8:].mean(1) < 0.8 * trace.loss[:, :4].mean(1)).all()


def test_the_best_on_validation_is_kept_the_first_of_equals(fitted, pair, monkeypatch):
    curve = fitted.validation.mean(axis=1)
    accuracies = np.array([[0.5, 0.7], [0.6, 0.8], [0.7, 0.7], 2 * [np.nan]])
    assert loop.best_chunk(accuracies) == 1
    assert fitted.step == 4 + 4 * int(np.argmax(curve)) < 40
    job, after = small_task.job(), {}

    def live(done, progress):
        after[done] = jax.tree.map(np.array, progress.state.params)

    fit(job, live=live)
    chex.assert_trees_all_equal(after[fitted.step], fitted.params)
    monkeypatch.setattr(evaluate, "BATCH", 5)
    at = job.dataset, job.validation
    shares = evaluate.probabilities(SPEC, fitted.params, *at)
    _close(evaluate.right(shares, *at), fitted.validation[fitted.step // 4 - 1])
    logits = jax.jit(lambda params, x: networks.logits(SPEC.build(params), x))
    images = job.dataset.images[job.validation[1]]
    _close(shares[1], jax.nn.softmax(logits(_seed(fitted.params, 1), images)))


@pytest.mark.parametrize("where", ["images", "rate"])
def test_a_run_that_diverges_stops_and_says_where(pair, where):
    images = pair.target.dataset.images.copy()
    if where == "images":
        images[pair.target.train[1, 7]] = np.nan
    dataset = _replace(pair.target.dataset, images=images)
    rate = {"images": 0.05, "rate": 1e30}[where]
    job = pair.job(method("plain"), None, _replace(RECIPE, learning_rate=rate))
    with pytest.raises(
        FloatingPointError,
        match=r"fine-tuning \(sgd, learning rate \S+\) on stripes .* finite at step",
    ):
        fit(_replace(job, dataset=dataset))


def test_a_cell_without_validation_trains_to_the_end(pair):
    job = _replace(small_task.job(), validation=None)
    record = cell.train(job, _replace(pair.target, validation=None))
    assert (record["step"], len(record["accuracy"])) == (40, 2)
    assert np.mean(record["accuracy"]) > 60
    assert len(record["loss"]) == cell.POINTS == len(record["pull"])
    assert record["groups"] == ["conv1", "conv2", "conv3", "dense", "head"]
    assert 0 < record["conflict_rate"] < 1
    assert "validation" not in record


def test_the_parts_of_a_target_have_no_image_in_common(stripes):
    target = cell.few_shot_target(stripes, 4, range(3), validation_per_class=5, test=20)
    for parts in zip(target.train, target.validation, target.test, strict=True):
        assert len(set(np.concatenate(parts).tolist())) == 12 + 15 + 20
        for part, each in zip(parts, (4, 5), strict=False):
            assert np.bincount(stripes.labels[part]).tolist() == [each] * 3
    assert not np.array_equal(target.train[0], target.train[1])
    with pytest.raises(InputError, match="at most 19"):
        cell.few_shot_target(stripes, 15, range(3), validation_per_class=5)


def test_random_crops_are_parts_mirrored_or_not():
    # Every pixel has a number of its own.
    image = np.arange(6 * 7, dtype=np.int32).reshape(1, 6, 7, 1)
    images = jnp.broadcast_to(jnp.asarray(image), (200, 6, 7, 1))
    random_crops = jax.jit(augment.random_crops, static_argnames="side")
    crops = np.asarray(random_crops(jax.random.key(0), images, side=4))
    corners, mirrored = set(), 0
    for crop in crops[..., 0]:
        flipped = crop[0, 0] > crop[0, -1]
        upright = crop[:, ::-1] if flipped else crop
        top, left = divmod(int(upright[0, 0]), 7)
        np.testing.assert_array_equal(upright, image[0, top:, left:, 0][:4, :4])
        corners.add((top, left))
        mirrored += flipped
    assert len(corners) == 3 * 4  # all there are
    assert 70 < mirrored < 130
    np.testing.assert_array_equal(augment.middle(image, 4), image[:, 1:5, 1:5])


def test_crops_do_not_change_the_order_of_the_images(pair):
    """Of images whose parts are all alike, a run on crops is one on the whole."""

    def run(images, crop):
        dataset = _replace(pair.target.dataset, images=np.float32(images))
        job = pair.job(method("plain"), None, _replace(RECIPE, crop=crop))
        return fit(_replace(job, dataset=dataset))

    labels = pair.target.dataset.labels[:, None, None, None]
    flat = np.broadcast_to(labels / 4, (60, 7, 7, 1))
    _close(run(flat, 4), run(flat[:, 1:5, 1:5], None))
    noisy = flat + np.random.default_rng(0).normal(0, 0.1, flat.shape)
    middle = run(augment.middle(noisy, 4), None)
    assert not np.allclose(run(noisy, 4).trace.loss, middle.trace.loss, rtol=1e-3)


@pytest.mark.slow
def test_delta_is_kd_with_weights(pair):
    kd = pair.job(method("kd/layer"), 1.0, SHORT)
    ones = jax.tree.map(jnp.ones_like, pair.channel_weights)
    expected = fit(kd)
    alike = _replace(kd, method=method("delta/layer"), channel_weights=ones)
    _close(fit(alike).params, expected.params)
    found = fit(pair.job(method("delta/layer"), 1.0, SHORT))
    assert not np.allclose(found.trace.pull, expected.trace.pull, rtol=1e-3)


def test_channel_weights_follow_from_the_loss_without_each_channel(pair):
    """The gate of a channel against zeroing the parameters that make the channel."""
    target, seed = pair.target, 1
    rows = target.train[seed]
    images, labels = target.dataset.images[rows], target.dataset.labels[rows]
    own = _seed(pair.params, seed)
    trained = jax.jit(lambda own: delta._trained_head(SPEC, own, images, labels))
    own = {**own, "head": trained(own)}

    @jax.jit
    def loss(params):
        return cross_entropy(networks.logits(SPEC.build(params), images), labels)

    assert loss(own) < 0.8 * np.log(3)  # the head has learned
    for name in ("conv2", "dense"):
        rises, channels = [], own[name]["bias"].size
        for channel in range(channels):
            kept = np.float32(np.arange(channels) != channel)
            without = {k: x * kept for k, x in own[name].items()}
            rises.append(loss({**own, name: without}) - loss(own))
        wanted = channels * jax.nn.softmax(jnp.stack(rises))
        np.testing.assert_allclose(pair.channel_weights[name][seed], wanted, rtol=1e-4)
        assert np.ptp(wanted) > 1e-3
