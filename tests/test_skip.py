"""``skip_nonfinite``: a step that is not finite is as if it had not been."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import at, normal, stack, zeros

from dtnh_jax import (
    GradientPair,
    NotFinite,
    conflict_report,
    dtnh,
    l2_sp,
    multi_steps,
    skip_nonfinite,
    skip_report,
)

SHAPES = {"body": {"bias": (2,), "kernel": (3, 2)}, "head": ()}
LEAVES = ["body/bias", "body/kernel", "head"]
STEPS = 5
HALVES = GradientPair._fields


def same(actual, expected):
    """Bit for bit, dtypes included."""
    chex.assert_trees_all_equal(actual, expected, strict=True)
    chex.assert_trees_all_equal_dtypes(actual, expected)


START, ANCHOR = normal(0, SHAPES), normal(1, SHAPES)
TARGETS = [normal(10 + row, SHAPES) for row in range(STEPS)]
GROUPWISE = functools.partial(dtnh, granularity="layer")


def optimizer(form):
    """With all that a NaN could stay in: an average, a momentum and counts."""
    first = [l2_sp(pretrained=ANCHOR)] if form == "l2_sp" else []
    tx = GROUPWISE(0.7, reference_decay=0.8, inner=optax.trace(0.9))
    return optax.chain(*first, tx, optax.scale(-0.1))


@functools.cache
def stepper(tx, form):
    """One compiled step, which adds ``broken``, a pair of trees, to the gradients.

    It donates parameters and state, as training does.
    """

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, target, broken):
        g = jax.tree.map(lambda w, c, s: w - c + s, params, target, broken.empirical)
        r = jax.tree.map(lambda w, c, s: w - c + s, params, ANCHOR, broken.regularizer)
        given, kwargs = g, {}
        if form == "pair":
            given = GradientPair(g, r)
        elif form == "keyword":
            kwargs = {"regularizer_grads": r}
        updates, state = tx.update(given, state, params, **kwargs)
        return optax.apply_updates(params, updates), state

    return step


CLEAN = GradientPair(zeros(START), zeros(START))


def broken(half, leaf="head", value=np.nan):
    """Zeros, but for one number in one leaf of one half."""
    leaves, treedef = jax.tree.flatten(getattr(CLEAN, half))
    k = LEAVES.index(leaf)
    leaves[k] = leaves[k].at[(0,) * leaves[k].ndim].set(value)
    return CLEAN._replace(**{half: treedef.unflatten(leaves)})


def train(tx, form, steps):
    """``steps``: of each, the row of ``TARGETS``, and what breaks its gradients."""
    params, state = jax.tree.map(jnp.copy, START), tx.init(START)
    for row, extra in steps:
        params, state = stepper(tx, form)(params, state, TARGETS[row], extra)
    return params, state


WRAPPED = {
    form: skip_nonfinite(optimizer(form)) for form in ("pair", "keyword", "l2_sp")
}
ROWS = [(row, CLEAN) for row in range(STEPS)]


@pytest.mark.parametrize(
    ("form", "half"),
    [
        ("pair", "empirical"),
        ("pair", "regularizer"),
        ("keyword", "empirical"),
        ("keyword", "regularizer"),
        ("l2_sp", "empirical"),
    ],
)
def test_one_step_is_as_if_it_had_not_been(form, half):
    """The first, one within, and the last: from there on, bit for bit."""
    expected, without = train(WRAPPED[form], form, ROWS)
    assert np.isfinite(jax.tree.leaves(jax.tree.map(jnp.sum, expected))).all()
    first, middle, last = LEAVES
    for k, leaf, value in (
        (0, first, np.nan),
        (3, middle, -np.inf),
        (STEPS, last, np.nan),
    ):
        bad = (0, broken(half, leaf, value))
        params, state = train(WRAPPED[form], form, [*ROWS[:k], bad, *ROWS[k:]])
        same(params, expected)
        same(state.inner_state, without.inner_state)
        report = skip_report(state)
        assert report.pop("updates")
        assert report == {
            "skipped": 1,
            "in_a_row": int(k == STEPS),
            "empirical": [],
            "regularizer": [],
            half: [leaf],
        }
    assert stepper(WRAPPED[form], form)._cache_size() == 1


def test_many_in_a_row_and_the_report_is_of_the_last():
    one = (0, broken("empirical", "body/bias"))
    two = (0, broken("regularizer", "body/kernel", np.inf))
    expected, before = train(WRAPPED["pair"], "pair", ROWS[:2])
    after, state = train(WRAPPED["pair"], "pair", [*ROWS[:2], one, one, two])
    same(after, expected)
    same(state.inner_state, before.inner_state)
    report = skip_report(state)
    assert (report["skipped"], report["in_a_row"]) == (3, 3)
    assert (report["empirical"], report["regularizer"]) == ([], ["body/kernel"])
    # When it ends, training resumes, and the report is still of the last one.
    steps = [*ROWS[:2], two, one, *ROWS[2:]]
    again, state = train(WRAPPED["pair"], "pair", steps)
    same(again, train(WRAPPED["pair"], "pair", ROWS)[0])
    report = skip_report(state)
    assert (report["skipped"], report["in_a_row"]) == (2, 0)
    assert (report["empirical"], report["regularizer"]) == (["body/bias"], [])


def test_beyond_the_limit_steps_are_applied_as_they_are():
    tx = skip_nonfinite(optimizer("pair"), max_consecutive=2)
    bad, clean = (0, broken("empirical")), (1, CLEAN)
    params, state = train(tx, "pair", [clean, bad, bad, clean, bad, bad])
    assert np.isfinite(params["head"])
    assert skip_report(state)["skipped"] == 4
    assert skip_report(state)["in_a_row"] == 2
    params, state = train(tx, "pair", [clean, bad, bad, clean, bad, bad, bad, bad])
    assert np.isnan(params["head"])
    assert skip_report(state)["skipped"] == 4
    assert skip_report(state)["in_a_row"] == 4
    assert skip_report(state)["empirical"] == ["head"]


def test_a_finite_gradient_that_overflows_is_skipped():
    """Sums of squares overflow above 1e19; dtnh makes NaN of them."""
    tx = skip_nonfinite(dtnh(granularity="leaf"))
    g = jax.tree.map(jnp.ones_like, START)
    huge = {**g, "head": jnp.float32(1e30)}
    state, update = tx.init(g), jax.jit(tx.update)
    for pair in (GradientPair(huge, g), GradientPair(g, huge)):
        updates, new = update(pair, state)
        same(updates, zeros(g))
        same(new.inner_state, state.inner_state)
        report = skip_report(new)
        assert report["empirical"] == report["regularizer"] == []
        assert report["updates"] == ["head"]


def test_what_l2_sp_makes_of_parameters_that_are_not_finite_is_skipped():
    """Also around l2_sp alone, where the update is a pair."""
    params = {**START, "head": jnp.float32(np.inf)}
    maker = l2_sp(pretrained=ANCHOR)
    for inside, nothing in (
        (optax.chain(maker, dtnh(granularity="leaf")), zeros(START)),
        (maker, CLEAN),
    ):
        tx = skip_nonfinite(inside)
        state = tx.init(params)
        updates, new = tx.update(START, state, params)
        same(updates, nothing)
        same(new.inner_state, state.inner_state)
        assert skip_report(new)["updates"] == ["head"]
        _, new = tx.update(START, new, START)
        assert skip_report(new)["in_a_row"] == 0


@pytest.mark.parametrize("half", HALVES)
def test_what_is_zeroed_after_dtnh_is_seen_before_it(half):
    """The update is finite, the average would not have been."""
    inside = optax.chain(dtnh(reference_decay=0.5), optax.set_to_zero())
    tx = skip_nonfinite(inside)
    _, state = tx.update(broken(half), tx.init(START), START)
    same(state.inner_state, inside.init(START))
    assert skip_report(state)[half] == ["head"]
    assert skip_report(state)["updates"] == []


def test_finite_steps_are_those_of_what_is_wrapped():
    """Bit for bit, one operation at a time: a compiler may fuse either differently."""
    g, r = ({"w": jnp.arange(3, dtype=jnp.bfloat16) - k} for k in (1, 0))
    tx = dtnh(0.7, reference_decay=0.8)
    ours, theirs = skip_nonfinite(tx).init(g), tx.init(g)
    for _ in range(2):
        actual, ours = skip_nonfinite(tx).update(GradientPair(g, r), ours, g)
        expected, theirs = tx.update(GradientPair(g, r), theirs, g)
        same(actual, expected)
        same(ours.inner_state, theirs)
    assert skip_report(ours)["skipped"] == 0


@pytest.mark.parametrize("dtype", [jnp.float16, np.complex64])
def test_other_types_of_number(dtype):
    """And a complex number with one broken part."""
    g = normal(0, SHAPES, dtype)
    value = complex(1, np.inf) if dtype == np.complex64 else np.inf
    bad = {**g, "head": jnp.asarray(value, dtype)}
    tx = skip_nonfinite(optax.chain(dtnh(), optax.sgd(0.1, momentum=0.9)))
    state = tx.init(g)
    updates, new = jax.jit(tx.update)(GradientPair(g, bad), state, g)
    same(updates, zeros(g))
    same(new.inner_state, state.inner_state)
    assert skip_report(new)["regularizer"] == ["head"]


def test_vmap_skips_in_the_run_that_is_broken_alone():
    tx = skip_nonfinite(GROUPWISE(reference_decay=0.5))
    extras, starts = stack(CLEAN, broken("empirical", "body/bias")), stack(START, START)
    state = jax.vmap(tx.init)(starts)
    mapped = jax.vmap(stepper(tx, "pair"), in_axes=(0, 0, None, 0))
    params, state = mapped(starts, state, TARGETS[0], extras)
    assert (params["head"][0] != START["head"]).all()
    same(at(params, 1), START)
    report = skip_report(state)
    np.testing.assert_array_equal(report["skipped"], [0, 1])
    np.testing.assert_array_equal(report["in_a_row"], [0, 1])
    assert (report["empirical"], report["regularizer"]) == (["body/bias"], [])


@pytest.mark.usefixtures("lenient_promotion")  # for Optax's MultiSteps
@pytest.mark.parametrize(
    ("form", "accumulate"),
    [
        ("pair", lambda tx: multi_steps(tx, 2)),
        ("l2_sp", lambda tx: optax.MultiSteps(tx, 2).gradient_transformation()),
    ],
)
def test_around_multi_steps_it_skips_one_micro_step(form, accumulate):
    tx = skip_nonfinite(accumulate(optimizer(form)))
    expected, without = train(tx, form, ROWS[:4])
    for k in range(4):
        steps = [*ROWS[:k], (0, broken("empirical")), *ROWS[k:4]]
        params, state = train(tx, form, steps)
        same(params, expected)
        same(state.inner_state, without.inner_state)
        assert skip_report(state)["skipped"] == 1


def test_inside_multi_steps_it_skips_a_whole_update():
    tx = multi_steps(skip_nonfinite(optimizer("pair")), 2)
    expected, without = train(tx, "pair", ROWS[:4])
    bad = (0, broken("empirical"))
    for pair in ([bad, ROWS[0]], [ROWS[0], bad]):
        params, state = train(tx, "pair", [*ROWS[:2], *pair, *ROWS[2:4]])
        same(params, expected)
        inner, other = (s.inner_opt_state for s in (state, without))
        same(inner.inner_state, other.inner_state)
        assert skip_report(state)["skipped"] == 1
        assert skip_report(state)["empirical"] == ["head"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_one_number_among_many_is_found(dtype):
    """In arrays so large that a compiler makes vector code for them.

    XLA's ``max`` loses a NaN there.
    """
    tx = skip_nonfinite(optax.identity())
    clean = jnp.ones((600, 700), dtype)
    update, state = jax.jit(tx.update), tx.init(clean)
    assert skip_report(update(clean, state)[1])["empirical"] == []
    for place in ((0, 0), (3, 5), (311, 699), (599, 699)):
        for value in (np.nan, np.inf):
            _, new = update(clean.at[place].set(value), state)
            assert skip_report(new)["empirical"] == ["(root)"]


@pytest.mark.usefixtures("lenient_promotion")  # for Optax's noise
def test_extra_arguments_and_states_of_every_kind():
    """Extra arguments reach the inside, and a random stream is not moved by a skip."""
    noise = optax.add_noise(0.1, 0.5, jax.random.key(0))
    by_value = optax.GradientTransformationExtraArgs(
        lambda _: optax.EmptyState(),
        lambda u, s, p=None, *, value, **_: (jax.tree.map(lambda x: x * value, u), s),
    )
    tx = skip_nonfinite(optax.chain(dtnh(), noise, by_value))
    pair, state = GradientPair(START, START), tx.init(START)
    update = jax.jit(tx.update)
    first, moved = update(pair, state, value=2.0)
    _, skipped = update(pair, state, value=np.nan)
    second, _ = update(pair, skipped, value=2.0)
    same(second, first)
    third, _ = update(pair, moved, value=2.0)
    assert (third["head"] != first["head"]).all()


@pytest.mark.parametrize("form", WRAPPED)
def test_gradients_that_are_none(form):
    """As in Optax, with ``params``; and the report still names the right arrays."""
    makers = [l2_sp()] if form == "l2_sp" else []
    tx = skip_nonfinite(optax.chain(*makers, dtnh(reference_decay=0.5)))
    params = {"frozen": np.ones(3, "f"), "w": np.ones(2, "f"), "act": jnp.tanh}
    g = {"frozen": None, "w": np.ones(2, "f"), "act": None}
    bad = {**g, "w": np.float32([np.nan, 1])}
    state = tx.init(params)

    def update(g, params):
        given = GradientPair(g, g) if form == "pair" else g
        kwargs = {"regularizer_grads": g} if form == "keyword" else {}
        return tx.update(given, state, params, **kwargs)

    chex.assert_trees_all_equal(update(g, params)[0], g)
    updates, new = update(bad, params)
    chex.assert_trees_all_equal(updates, {**g, "w": np.zeros(2, "f")})
    same(new.inner_state, state.inner_state)
    assert skip_report(new)["empirical"] == ["w"]
    with pytest.raises(ValueError, match="pass `params` to `update` if a gradient"):
        update(g, None if form != "l2_sp" else {**params, "frozen": None})


def test_a_tree_without_leaves():
    tx = skip_nonfinite(optax.identity())
    updates, state = tx.update({}, tx.init({}))
    assert updates == {}
    assert skip_report(state)["skipped"] == 0


def test_inside_nnx_optimizer():
    """Around an accumulation, whose state NNX has to box too."""
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    inside = optax.chain(dtnh(reference_decay=0.5), optax.sgd(0.1))
    tx = skip_nonfinite(multi_steps(inside, 1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    ones = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    bad = jax.tree.map(lambda x: x.at[0].set(np.nan) if x.ndim == 1 else x, ones)
    step = nnx.jit(lambda m, o, g, r: o.update(m, g, regularizer_grads=r))
    start = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    step(model, optimizer, ones, bad)
    same(nnx.state(model, nnx.Param), start)
    report = skip_report(optimizer.opt_state)
    assert (report["skipped"], report["in_a_row"]) == (1, 1)
    assert (report["empirical"], report["regularizer"]) == ([], ["bias"])
    for _ in range(2):  # in the first of them there is no average yet
        step(model, optimizer, ones, ones)
    moved = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), start)
    for x in jax.tree.leaves(moved):
        np.testing.assert_allclose(x, -0.3, 1e-5)
    assert skip_report(optimizer.opt_state)["skipped"] == 1
    assert conflict_report(optimizer.opt_state)["global"]["rate"] == 0


@pytest.mark.parametrize("half", HALVES)
def test_apply_if_finite_after_dtnh_comes_too_late_for_an_average(half):
    """One NaN in g stays in the average; after three skips all is NaN."""
    after = optax.apply_if_finite(optax.sgd(0.1), 3)
    tx = optax.chain(GROUPWISE(reference_decay=0.5), after)
    params, state = train(tx, "pair", [ROWS[0], (0, broken(half)), *[ROWS[1]] * 3])
    poisoned = half == "empirical"
    assert np.isnan(state[0].reference["head"]) == poisoned
    assert np.isnan(params["head"]) == poisoned


def test_a_state_restored_from_bytes_still_knows_its_leaves():
    serialization = pytest.importorskip("flax.serialization")
    tx = WRAPPED["pair"]
    _, state = train(tx, "pair", [(0, broken("empirical"))])
    raw = serialization.to_bytes(state)
    restored = serialization.from_bytes(tx.init(normal(5, SHAPES)), raw)
    assert skip_report(restored) == skip_report(state)
    assert isinstance(restored.last, NotFinite)


def update(tx, given, params=None, start=START):
    return lambda: tx.update(given, tx.init(start), params)


SKIPPING = skip_nonfinite(dtnh())
STATE = SKIPPING.init(START)
ONE = {"w": jnp.ones(2)}
REFUSED = {
    "`tx` must be an optax.Gradient": lambda: skip_nonfinite(dtnh),
    "`max_consecutive` must be at least 1, got 0": lambda: skip_nonfinite(dtnh(), 0),
    "`max_consecutive` must be an integer, got 1.5": lambda: skip_nonfinite(
        dtnh(), 1.5
    ),
    "dtnh needs two gradients": update(SKIPPING, START),
    "was given 1 arrays, but `init` got 3": update(SKIPPING, GradientPair(ONE, ONE)),
    "array at ['v'], but the parameters have none there": update(
        skip_nonfinite(optax.identity()), {"v": jnp.ones(2)}, ONE, ONE
    ),
    "0 states of skip_nonfinite in this DtnhState": lambda: skip_report(
        dtnh().init(START)
    ),
    "2 states of skip_nonfinite in this tuple": lambda: skip_report((STATE, STATE)),
    "skip_report reads values": lambda: jax.jit(skip_report)(STATE),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
