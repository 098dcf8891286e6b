"""``multi_steps``: the update of one large batch, from several small ones."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    l2_sp,
    logit_distillation,
    multi_steps,
    pair_value_and_grad,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")

PRETRAINED = training.parameters(7)  # random, that is harmful
SMALL, LARGE = 8, 32


def losses(params, images, labels):
    """The loss and a penalty that differs from batch to batch, as distillation does."""
    targets = jnp.roll(images, 1, axis=-1)[:, :10] * 20.0
    logits = training.logits(params, images)
    return training.loss(params, images, labels), logit_distillation(logits, targets)


def pair_form(params, images, labels):
    return pair_value_and_grad(losses)(params, images, labels)[1], {}


def keyword_form(params, images, labels):
    pair, _ = pair_form(params, images, labels)
    return pair.empirical, {"regularizer_grads": pair.regularizer}


def l2_sp_form(params, images, labels):
    return jax.grad(training.loss)(params, images, labels), {}


FORMS = {"pair": pair_form, "keyword": keyword_form, "l2_sp": l2_sp_form}


@functools.cache
def optimizer(form, inner=None, granularity="layer", last=None):
    first = [l2_sp(PRETRAINED, 1.0)] if form == "l2_sp" else []
    last = optax.sgd(0.1, momentum=0.9) if last is None else last
    return optax.chain(*first, dtnh(3.0, granularity=granularity, inner=inner), last)


def batches(size, count):
    images, labels = training.digits()
    order = np.random.default_rng(0).permutation(len(labels))[: size * count]
    return (
        images[order].reshape(count, size, -1),
        labels[order].reshape(count, size),
    )


def train(tx, form, data, params=None):
    """Parameters after every step, and the last state."""
    params = training.parameters(0) if params is None else params
    return _train(tx, FORMS.get(form, form), data, params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(tx, form, data, params):
    def step(carry, batch):
        params, state = carry
        gradients, kwargs = form(params, *batch)
        updates, state = tx.update(gradients, state, params, **kwargs)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), seen = jax.lax.scan(step, (params, tx.init(params)), data)
    return seen, state


def close(actual, expected, rtol=2e-4):
    """Parameters that went the same way but for rounding, by the length of the way."""
    start = training.parameters(0)
    for x, y, w in zip(*map(jax.tree.leaves, (actual, expected, start)), strict=True):
        moved = float(jnp.abs(y - w).max())
        np.testing.assert_allclose(x, y, 0, rtol * moved)
        assert moved > 0


def at(trajectory, step):
    return jax.tree.map(lambda x: x[step], trajectory)


ADAM = optax.scale_by_adam(eps=1e-3)


@pytest.mark.parametrize(
    ("form", "kwargs"),
    [
        *((form, {}) for form in FORMS),
        *((form, {"inner": ADAM}) for form in FORMS),
        ("pair", {"granularity": "global"}),
        ("pair", {"last": optax.chain(ADAM, optax.scale(-1e-2))}),
    ],
)
def test_equals_the_large_batch(form, kwargs):
    tx = optimizer(form, **kwargs)
    every = LARGE // SMALL
    small, state = train(multi_steps(tx, every), form, batches(SMALL, 24))
    large, expected = train(tx, form, batches(LARGE, 6))
    for step in range(6):
        close(at(small, every * step + every - 1), at(large, step))
    assert (state.gradient_step, state.mini_step) == (6, 0)
    # Conflict is judged once an update.
    conflicts = conflict_report(state), conflict_report(expected)
    rates = [[group["rate"] for group in report.values()] for report in conflicts]
    np.testing.assert_array_equal(*rates)
    assert max(rates[0]) > 0


@pytest.mark.parametrize(
    ("form", "tx"),
    [
        ("keyword", lambda: optax.MultiSteps(optimizer("keyword"), 4)),
        (
            "pair",
            lambda: optax.chain(
                dtnh(3.0, granularity="layer"),
                optax.MultiSteps(
                    optax.sgd(0.1, momentum=0.9), 4
                ).gradient_transformation(),
            ),
        ),
    ],
    ids=["the last regularizer", "mean of projections"],
)
def test_the_check_sees_what_optax_accumulates(form, tx):
    """A test of the test, and why ``multi_steps`` exists."""
    tx = tx()
    tx = optax.GradientTransformationExtraArgs(tx.init, tx.update)
    small, _ = train(tx, form, batches(SMALL, 8))
    large, _ = train(optimizer(form), form, batches(LARGE, 2))
    with pytest.raises(AssertionError):
        close(at(small, 7), at(large, 1), rtol=1e-2)


def test_updates_are_zero_in_between_and_the_state_waits():
    tx = multi_steps(optimizer("pair"), 3)
    params = training.parameters(0)
    state = tx.init(params)
    pair, _ = jax.jit(pair_form)(params, *at(batches(SMALL, 1), 0))
    update = jax.jit(tx.update)
    for step in range(1, 7):
        before = state
        updates, state = update(pair, state, params)
        if step % 3 == 0:
            assert all((u != 0).any() for u in jax.tree.leaves(updates))
            assert all((m == 0).all() for m in jax.tree.leaves(state.acc_grads))
        else:
            jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates)
            jax.tree.map(
                np.testing.assert_array_equal,
                state.inner_opt_state,
                before.inner_opt_state,
            )
        assert (state.mini_step, state.gradient_step) == (step % 3, step // 3)
        assert optax.MultiSteps(optax.sgd(1), 3).has_updated(state) == (step % 3 == 0)


def test_every_k_may_be_a_schedule_of_the_updates():
    tx = multi_steps(optimizer("pair"), lambda n: jnp.where(n < 1, 1, 4))
    images, labels = batches(SMALL, 9)
    small, state = train(tx, "pair", (images, labels))
    assert state.gradient_step == 3

    sizes = [slice(0, 1), slice(1, 5), slice(5, 9)]
    params, inner = training.parameters(0), optimizer("pair").init(PRETRAINED)
    for rows in sizes:
        batch = images[rows].reshape(-1, 64), labels[rows].reshape(-1)
        pair, _ = jax.jit(pair_form)(params, *batch)
        updates, inner = jax.jit(optimizer("pair").update)(pair, inner, params)
        params = optax.apply_updates(params, updates)
        close(at(small, rows.stop - 1), params)


@pytest.mark.parametrize("kind", [np.int64, jnp.int32])
def test_every_k_may_be_an_integer_of_any_kind(kind):
    with jax.numpy_dtype_promotion("strict"):
        tx = multi_steps(dtnh(), kind(2))
        pair = GradientPair({"w": jnp.ones(2)}, {"w": jnp.ones(2)})
        state = tx.init(pair.empirical)
        updates, state = tx.update(pair, state)
        updates, state = tx.update(pair, state)
        np.testing.assert_array_equal(updates["w"], 2.0)
    made = jax.jit(lambda k: multi_steps(dtnh(), k).update(pair, state)[0])(1)
    np.testing.assert_array_equal(made["w"], 2.0)


@pytest.mark.parametrize(
    ("form", "half", "value"),
    [
        ("pair", "empirical", np.nan),
        pytest.param("pair", "regularizer", np.inf, marks=pytest.mark.slow),
        pytest.param("keyword", "regularizer", np.nan, marks=pytest.mark.slow),
        ("l2_sp", "empirical", np.nan),
    ],
)
def test_steps_that_are_not_finite_are_skipped(form, half, value):
    """As if they had not been: the first, one within, and the last of a round."""

    def broken_form(params, images, labels, is_broken):
        given, kwargs = FORMS[form](params, images, labels)

        def spoil(tree):
            leaves, treedef = jax.tree.flatten(tree)
            bad = leaves[-1].at[0, 0].set(value)
            return treedef.unflatten(
                [*leaves[:-1], jnp.where(is_broken, bad, leaves[-1])]
            )

        if form == "pair":
            return given._replace(**{half: spoil(getattr(given, half))}), kwargs
        if half == "empirical":
            return spoil(given), kwargs
        return given, {"regularizer_grads": spoil(kwargs["regularizer_grads"])}

    data = *batches(SMALL, 12), np.isin(np.arange(12), [0, 5, 7, 8])
    kept = at(data, ~data[-1])
    tx = multi_steps(optimizer(form), 4, should_skip_update_fn=optax.skip_not_finite)
    actual, state = train(tx, broken_form, data)
    expected, other = train(tx, broken_form, kept)
    close(at(actual, -1), at(expected, -1), rtol=1e-5)
    assert (state.gradient_step, state.mini_step) == (2, 0)
    assert (other.gradient_step, other.mini_step) == (2, 0)
    assert state.skip_state["num_not_finite"] == 0
    _, state = train(tx, broken_form, at(data, slice(0, 6)))
    assert state.skip_state["num_not_finite"] == 1
    assert (state.gradient_step, state.mini_step) == (1, 0)


def test_what_is_not_finite_and_not_skipped_comes_out_once():
    tx = multi_steps(dtnh(), 2)
    g = {"w": jnp.ones(2)}
    state = tx.init(g)
    update = jax.jit(tx.update)
    for bad in ({"w": jnp.array([jnp.nan, 1.0])}, {"w": jnp.array([jnp.inf, 1.0])}):
        updates, state = update(GradientPair(g, bad), state)
        np.testing.assert_array_equal(updates["w"], 0)
        updates, state = update(GradientPair(g, g), state)
        assert not jnp.isfinite(updates["w"]).all()
    for _ in range(2):
        updates, state = update(GradientPair(g, g), state)
    np.testing.assert_array_equal(updates["w"], 2)


def test_should_skip_sees_the_pair_the_count_and_the_parameters():
    def should_skip(updates, count, params):
        assert isinstance(updates, GradientPair)
        size = optax.tree.norm(updates.regularizer) + optax.tree.norm(params)
        return size > 10 + count, {"size": size}

    tx = multi_steps(dtnh(), 1, should_skip_update_fn=should_skip)
    params = {"w": jnp.array([3.0])}
    state = tx.init(params)
    for r, skipped in ((8.0, True), (6.0, False), (8.0, False), (9.5, True)):
        pair = GradientPair({"w": jnp.ones(1)}, {"w": jnp.array([r])})
        updates, state = jax.jit(tx.update)(pair, state, params)
        np.testing.assert_array_equal(updates["w"], 0 if skipped else 1 + r)
        assert state.skip_state["size"] == r + 3


def test_one_tree_is_held_for_one_gradient_and_two_for_two():
    params = training.parameters(0)
    make = functools.partial(multi_steps, every_k=2)
    for tx in (dtnh(), optimizer("pair"), make(dtnh()), injected(), masked()):
        acc = make(tx).init(params).acc_grads
        assert isinstance(acc, GradientPair)
        for half in acc:
            assert jax.tree.structure(half) == jax.tree.structure(params)
    for tx in (optimizer("l2_sp"), optax.sgd(1.0), make(optimizer("l2_sp"))):
        acc = make(tx).init(params).acc_grads
        assert jax.tree.structure(acc) == jax.tree.structure(params)


def injected():
    return optax.inject_hyperparams(dtnh)(weight=0.5)


def masked():
    """Takes the keyword form alone."""
    mask = {"layer0": True, "layer1": False}
    tx = optax.chain(dtnh(), optax.sgd(0.1))
    return optax.masked(tx, mask, mask_compatible_extra_args=True)


@pytest.mark.parametrize(
    ("tx", "form"),
    [(injected(), "pair"), (masked(), "keyword")],
    ids=["inject", "mask"],
)
def test_what_takes_one_form_gets_that_form(tx, form):
    small, _ = train(multi_steps(tx, 4), form, batches(SMALL, 4))
    large, _ = train(tx, form, batches(LARGE, 1))
    close(at(small, -1), at(large, -1))


def test_extra_arguments_reach_the_transformation():
    def update_fn(updates, state, params=None, *, value, **extra):
        return jax.tree.map(lambda x: x * value, updates), state

    scale = optax.GradientTransformationExtraArgs(
        lambda _: optax.EmptyState(), update_fn
    )
    g = {"w": jnp.ones(2)}
    for tx, given in (
        (optax.chain(dtnh(), scale), GradientPair(g, g)),
        (optax.chain(l2_sp({"w": None}, 0.0, 1.0), dtnh(), scale), g),
    ):
        tx = multi_steps(tx, 1)
        updates, _ = tx.update(given, tx.init(g), g, value=5.0)
        np.testing.assert_array_equal(updates["w"], 10)


@pytest.mark.parametrize("form", ["pair", "l2_sp"])
def test_the_state_scans_donates_and_compiles_once(form):
    tx = multi_steps(
        optimizer(form, inner=optax.scale_by_adam()),
        2,
        should_skip_update_fn=optax.skip_not_finite,
    )
    params = training.parameters(0)
    data = batches(SMALL, 4)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, batch):
        updates, state = tx.update(FORMS[form](params, *batch)[0], state, params)
        return optax.apply_updates(params, updates), state

    carry = jax.tree.map(jnp.copy, (params, tx.init(params)))
    for k in range(4):
        carry = step(*carry, at(data, k))
    assert step._cache_size() == 1
    scanned, state = train(tx, form, data)
    close(carry[0], at(scanned, -1))
    assert jax.tree.structure(carry[1]) == jax.tree.structure(state)


def test_vmap_over_seeds():
    tx = multi_steps(optimizer("pair"), 2)
    images, labels = batches(SMALL, 4)
    starts = [training.parameters(seed) for seed in (0, 3)]
    both = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    run = lambda params: train(tx, "pair", (images, labels), params)[0]  # noqa: E731
    mapped = jax.vmap(run)(both)
    close(at(at(mapped, 0), -1), at(run(starts[0]), -1))


@pytest.mark.parametrize("form", ["pair", "l2_sp"])
def test_state_maps_as_optax_expects(form):
    tx = multi_steps(optimizer(form), 2)
    state = tx.init(training.parameters(0))
    doubled = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert jax.tree.structure(doubled) == jax.tree.structure(state)
    assert all((x == 1).all() for x in jax.tree.leaves(doubled.acc_grads))
    assert doubled.mini_step == 0


def test_means_are_taken_in_float32_at_least_and_come_in_the_gradients_dtype():
    """In bfloat16 a quarter of 2^-5 would be lost beside 1."""
    with jax.numpy_dtype_promotion("strict"):
        for dtype, small in ((jnp.bfloat16, 2.0**-7), (jnp.complex64, 2.0**-22)):
            g = {"w": jnp.ones(2, dtype)}
            tx = multi_steps(dtnh(0.0), 4)
            state, update = tx.init(g), jax.jit(tx.update)
            wide = {x.dtype for x in jax.tree.leaves(state.acc_grads)}
            assert wide == {np.dtype("float32" if dtype == jnp.bfloat16 else dtype)}
            for k in range(4):
                x = {"w": g["w"] + jnp.asarray(small * (k == 3) * 4, dtype)}
                updates, state = update(GradientPair(x, x), state)
            assert updates["w"].dtype == dtype
            np.testing.assert_array_equal(updates["w"], 1 + small)
    with jax.enable_x64(True):
        g = {"w": jnp.full(2, 1 / 3)}
        tx = multi_steps(dtnh(0.0), 2)
        state = tx.init(g)
        for _ in range(2):
            updates, state = tx.update(GradientPair(g, g), state)
        np.testing.assert_allclose(updates["w"], 1 / 3, 1e-15)


def test_halves_of_different_precision():
    g, r = {"w": jnp.ones(2)}, {"w": -jnp.ones(2, jnp.bfloat16)}
    tx = multi_steps(dtnh(), 2)
    state = tx.init(g)
    for _ in range(2):
        updates, state = tx.update(GradientPair(g, r), state)
    np.testing.assert_allclose(updates["w"], [1, 1], 1e-6)
    assert updates["w"].dtype == jnp.float32


def test_agrees_with_optax_on_one_gradient():
    data = batches(SMALL, 8)
    for tx in (optax.adam(1e-2), optax.sgd(0.1, momentum=0.9)):
        theirs = optax.MultiSteps(tx, 4, should_skip_update_fn=optax.skip_not_finite)
        theirs = optax.GradientTransformationExtraArgs(theirs.init, theirs.update)
        ours = multi_steps(tx, 4, should_skip_update_fn=optax.skip_not_finite)
        expected, their_state = train(theirs, "l2_sp", data)
        actual, state = train(ours, "l2_sp", data)
        close(at(actual, -1), at(expected, -1))
        assert jax.tree.structure(state) == jax.tree.structure(their_state)


def test_inside_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    start = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    tx = multi_steps(optax.chain(dtnh(), optax.sgd(1.0)), 2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    ones = jax.tree.map(jnp.ones_like, start)
    step = nnx.jit(lambda m, o, g, r: o.update(m, g, regularizer_grads=r))
    for k in range(2):
        r = jax.tree.map(lambda x, k=k: 2.0 * k * x, ones)
        step(model, optimizer, ones, r)
        moved = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), start)
        jax.tree.map(
            lambda x, k=k: np.testing.assert_allclose(x, -2.0 * k, 1e-6), moved
        )


SHARDED = """
import jax, optax, training
import test_accumulate as here
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from dtnh_jax import multi_steps

assert jax.device_count() == 8
for form, skip in (("pair", optax.skip_not_finite), ("l2_sp", None)):
    tx = multi_steps(here.optimizer(form), 2, should_skip_update_fn=skip)
    data = here.batches(16, 4)
    expected, _ = here.train(tx, form, data)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            specs = {"kernel": P("x"), "bias": P()}
            specs = {k: specs for k in training.parameters(0)}
            placed = jax.tree.map(
                lambda w, spec: jax.device_put(w, NamedSharding(mesh, spec)),
                training.parameters(0), specs,
            )
            got, state = here.train(tx, form, data, placed)
        half = state.acc_grads.regularizer if form == "pair" else state.acc_grads
        sharding = half["layer0"]["kernel"].sharding
        assert sharding.spec[0] == "x", (form, kind, sharding)
        here.close(jax.device_get(here.at(got, -1)), here.at(expected, -1))
print("ok")
"""


@pytest.mark.slow
def test_on_a_mesh_of_eight_devices():
    flags = "--xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"


G = {"w": jnp.ones(2)}


def updated(tx, given, **kwargs):
    tx = multi_steps(tx, 2, **kwargs)
    return tx.update(given, tx.init(G), G)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: multi_steps(dtnh, 2), TypeError, "`tx` must be an optax.Gradient"),
        (
            lambda: multi_steps(dtnh(), 0),
            ValueError,
            "`every_k` must be positive, got 0",
        ),
        (lambda: multi_steps(dtnh(), 2.0), TypeError, "must be an integer or a sched"),
        (lambda: multi_steps(dtnh(), "2"), TypeError, "`every_k` must be a number"),
        (lambda: updated(dtnh(), G), TypeError, "dtnh needs two gradients"),
        (
            lambda: updated(dtnh(), GradientPair(G, {"v": G["w"]})),
            ValueError,
            r"nothing at \['w'\]",
        ),
        (
            lambda: updated(optax.chain(l2_sp(G, 1.0), dtnh()), GradientPair(G, G)),
            TypeError,
            "given two gradients, but its `tx` takes one",
        ),
        (
            lambda: updated(
                dtnh(), GradientPair(G, G), should_skip_update_fn=lambda *_: (1.0, ())
            ),
            ValueError,
            "must return a boolean scalar and a pytree; the first has dtype float32",
        ),
        (
            lambda: updated(
                dtnh(),
                GradientPair(G, G),
                should_skip_update_fn=lambda *_: (jnp.zeros(2, bool), ()),
            ),
            ValueError,
            r"and shape \(2,\)",
        ),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=says):
        act()
