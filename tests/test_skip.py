"""``skip_nonfinite``: a step that is not finite is as if it had not been."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import at, stack

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
STEPS = 8
FORMS = ["pair", "keyword", "l2_sp"]


def same(actual, expected):
    """Bit for bit, dtypes included."""
    chex.assert_trees_all_equal(actual, expected, strict=True)
    chex.assert_trees_all_equal_dtypes(actual, expected)


def normal(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape), dtype),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


START, ANCHOR = normal(0), normal(1)
TARGETS = [normal(10 + row) for row in range(STEPS)]
GROUPWISE = functools.partial(dtnh, granularity="layer")


@functools.cache
def optimizer(form="pair"):
    """With all that a NaN could stay in: an average, a momentum and counts."""
    first = [l2_sp(pretrained=ANCHOR)] if form == "l2_sp" else []
    tx = GROUPWISE(0.7, reference_decay=0.8, inner=optax.trace(0.9))
    return optax.chain(*first, tx, optax.scale(-0.1))


@functools.cache
def stepper(tx, form):
    """One compiled step, which adds ``spoiled``, a pair of trees, to the gradients.

    It donates parameters and state, as training does.
    """

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, target, spoiled):
        g = jax.tree.map(lambda w, c, s: w - c + s, params, target, spoiled.empirical)
        r = jax.tree.map(lambda w, c, s: w - c + s, params, ANCHOR, spoiled.regularizer)
        given, kwargs = g, {}
        if form == "pair":
            given = GradientPair(g, r)
        elif form == "keyword":
            kwargs = {"regularizer_grads": r}
        updates, state = tx.update(given, state, params, **kwargs)
        return optax.apply_updates(params, updates), state

    return step


CLEAN = GradientPair(*[jax.tree.map(jnp.zeros_like, START)] * 2)


def spoiled(half, leaf, value):
    """Zeros, but for one number in one leaf of one half."""
    leaves, treedef = jax.tree.flatten(getattr(CLEAN, half))
    k = LEAVES.index(leaf)
    leaves[k] = leaves[k].at[(0,) * leaves[k].ndim].set(value)
    return CLEAN._replace(**{half: treedef.unflatten(leaves)})


def train(tx, form, steps):
    """``steps``: of each, the row of ``TARGETS``, and what spoils its gradients."""
    params, state = jax.tree.map(jnp.copy, START), tx.init(START)
    for row, spoil in steps:
        params, state = stepper(tx, form)(params, state, TARGETS[row], spoil)
    return params, state


@functools.cache
def trained(form):
    """Without any step that is skipped."""
    return train(WRAPPED[form], form, [(row, CLEAN) for row in range(STEPS)])


WRAPPED = {form: skip_nonfinite(optimizer(form)) for form in FORMS}
CASES = [
    (form, half)
    for form in FORMS
    for half in GradientPair._fields
    if (form, half) != ("l2_sp", "regularizer")
]


@pytest.mark.parametrize(("form", "half"), CASES)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("leaf", LEAVES)
def test_one_step_is_as_if_it_had_not_been(form, half, value, leaf):
    """The first, one within, and the last: from there on, bit for bit."""
    clean = [(row, CLEAN) for row in range(STEPS)]
    expected, without = trained(form)
    for k in (0, 3, STEPS):
        bad = (0, spoiled(half, leaf, value))
        params, state = train(WRAPPED[form], form, [*clean[:k], bad, *clean[k:]])
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
    assert np.isfinite(jax.tree.leaves(jax.tree.map(jnp.sum, expected))).all()


@pytest.mark.parametrize(("form", "half"), CASES)
def test_for_ever_nothing_moves_and_the_report_says_so(form, half):
    clean = [(row, CLEAN) for row in range(3)]
    params, before = train(WRAPPED[form], form, clean)
    bad = [(0, spoiled(half, "head", np.nan))] * 5
    after, state = train(WRAPPED[form], form, [*clean, *bad])
    same(after, params)
    same(state.inner_state, before.inner_state)
    report = skip_report(state)
    assert (report["skipped"], report["in_a_row"]) == (5, 5)
    assert report[half] == ["head"]
    # And when it ends, it goes on, and still says what it was.
    again, state = train(WRAPPED[form], form, [*clean, *bad, (3, CLEAN)])
    expected, _ = train(WRAPPED[form], form, [*clean, (3, CLEAN)])
    same(again, expected)
    report = skip_report(state)
    assert (report["skipped"], report["in_a_row"]) == (5, 0)
    assert report[half] == ["head"]


def test_the_report_is_of_the_last_skipped_step():
    one = spoiled("empirical", "body/bias", np.nan)
    two = spoiled("regularizer", "body/kernel", np.inf)
    both = jax.tree.map(jnp.add, one, two)
    for steps, empirical, regularizer in (
        ([one, two], [], ["body/kernel"]),
        ([two, one, CLEAN], ["body/bias"], []),
        ([one, CLEAN, both], ["body/bias"], ["body/kernel"]),
    ):
        _, state = train(WRAPPED["pair"], "pair", [(0, spoil) for spoil in steps])
        report = skip_report(state)
        assert report["empirical"] == empirical
        assert report["regularizer"] == regularizer


def test_beyond_the_limit_steps_are_applied_as_they_are():
    tx = skip_nonfinite(optimizer(), max_consecutive=2)
    bad = (0, spoiled("empirical", "head", np.nan))
    clean = (1, CLEAN)
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
    for pair in (GradientPair(huge, g), GradientPair(g, huge)):
        state = tx.init(g)
        updates, new = jax.jit(tx.update)(pair, state)
        same(updates, jax.tree.map(jnp.zeros_like, g))
        same(new.inner_state, state.inner_state)
        report = skip_report(new)
        assert report["empirical"] == report["regularizer"] == []
        assert report["updates"] == ["head"]


def test_what_l2_sp_makes_of_parameters_that_are_not_finite_is_skipped():
    tx = skip_nonfinite(optax.chain(l2_sp(pretrained=ANCHOR), dtnh(granularity="leaf")))
    params = {**START, "head": jnp.float32(np.inf)}
    state = tx.init(params)
    updates, new = jax.jit(tx.update)(START, state, params)
    same(updates, jax.tree.map(jnp.zeros_like, START))
    same(new.inner_state, state.inner_state)
    assert skip_report(new)["updates"] == ["head"]


@pytest.mark.parametrize("half", GradientPair._fields)
def test_what_is_hidden_behind_dtnh_is_seen_before_it(half):
    """The update is finite, the average would not have been."""
    inside = optax.chain(dtnh(reference_decay=0.5), optax.set_to_zero())
    pair = jax.tree.map(jnp.add, spoiled(half, "head", np.nan), CLEAN)
    tx = skip_nonfinite(inside)
    _, state = jax.jit(tx.update)(pair, tx.init(START), START)
    same(state.inner_state, inside.init(START))
    assert skip_report(state)[half] == ["head"]
    assert skip_report(state)["updates"] == []


@pytest.mark.parametrize(
    ("form", "dtype"), [("pair", "float32"), ("l2_sp", "float32"), ("pair", "bfloat16")]
)
def test_finite_steps_are_those_of_what_is_wrapped(form, dtype):
    """Bit for bit, one operation at a time: a compiler may fuse either differently."""
    g, r, anchor = ({"w": jnp.arange(3, dtype=dtype) - k} for k in (1, 0, 2))
    first = [l2_sp(pretrained=anchor)] if form == "l2_sp" else []
    tx = optax.chain(*first, dtnh(0.7, reference_decay=0.8))
    given = GradientPair(g, r) if form == "pair" else g
    ours, theirs = skip_nonfinite(tx).init(g), tx.init(g)
    for _ in range(2):
        actual, ours = skip_nonfinite(tx).update(given, ours, g)
        expected, theirs = tx.update(given, theirs, g)
        same(actual, expected)
        same(ours.inner_state, theirs)
    assert skip_report(ours)["skipped"] == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_other_types_of_number(dtype):
    """And a complex number with one broken part."""
    g = normal(0, dtype)
    value = complex(1, np.inf) if dtype == "complex64" else np.inf
    bad = {**g, "head": jnp.asarray(value, dtype)}
    tx = skip_nonfinite(optax.chain(dtnh(), optax.sgd(0.1, momentum=0.9)))
    state = tx.init(g)
    updates, new = jax.jit(tx.update)(GradientPair(g, bad), state, g)
    same(updates, jax.tree.map(jnp.zeros_like, g))
    same(new.inner_state, state.inner_state)
    assert skip_report(new)["regularizer"] == ["head"]


def test_one_compilation_and_the_same_in_a_scan():
    tx, step = WRAPPED["pair"], stepper(WRAPPED["pair"], "pair")
    spoils = [CLEAN] * STEPS
    spoils[2] = spoiled("regularizer", "body/kernel", np.nan)
    params, state = train(tx, "pair", enumerate(spoils))
    assert step._cache_size() == 1
    start = START, tx.init(START)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, start[1])
    stacked = stack(*zip(TARGETS, spoils, strict=True))
    scanned, _ = jax.lax.scan(lambda carry, x: (step(*carry, *x), None), start, stacked)
    chex.assert_trees_all_close((params, state), scanned, rtol=1e-5, atol=1e-6)
    assert skip_report(scanned[1])["skipped"] == 1


def test_vmap_skips_in_the_run_that_is_broken_alone():
    tx = skip_nonfinite(GROUPWISE(reference_decay=0.5))
    broken = spoiled("empirical", "body/bias", np.nan)
    spoils, starts = stack(CLEAN, broken), stack(START, START)
    state = jax.vmap(tx.init)(starts)
    mapped = jax.vmap(stepper(tx, "pair"), in_axes=(0, 0, None, 0))
    params, state = mapped(starts, state, TARGETS[0], spoils)
    assert (params["head"][0] != START["head"]).all()
    same(at(params, 1), START)
    report = skip_report(state)
    np.testing.assert_array_equal(report["skipped"], [0, 1])
    np.testing.assert_array_equal(report["in_a_row"], [0, 1])
    assert report["empirical"] == ["body/bias"]
    assert report["regularizer"] == []


def accumulating(tx, form):
    """Two micro-steps per update: ours for pairs, Optax's for plain gradients."""
    if form == "pair":
        return multi_steps(tx, 2)
    return optax.MultiSteps(tx, 2).gradient_transformation()


@pytest.mark.usefixtures("lenient_promotion")  # for Optax's MultiSteps
@pytest.mark.parametrize("form", ["pair", "l2_sp"])
def test_around_multi_steps_it_skips_one_micro_step(form):
    tx = skip_nonfinite(accumulating(optimizer(form), form))
    clean = [(row, CLEAN) for row in range(4)]
    expected, without = train(tx, form, clean)
    bad = (0, spoiled("empirical", "head", np.nan))
    for k in range(5):
        params, state = train(tx, form, [*clean[:k], bad, *clean[k:]])
        same(params, expected)
        same(state.inner_state, without.inner_state)
        assert skip_report(state)["skipped"] == 1


def test_inside_multi_steps_it_skips_a_whole_update():
    tx = accumulating(skip_nonfinite(optimizer()), "pair")
    clean = [(row, CLEAN) for row in range(4)]
    expected, without = train(tx, "pair", clean)
    bad = spoiled("empirical", "head", np.nan)
    for spoils in ([bad, CLEAN], [CLEAN, bad], [bad, bad]):
        rounds = [*clean[:2], *((0, spoil) for spoil in spoils), *clean[2:]]
        params, state = train(tx, "pair", rounds)
        same(params, expected)
        inner, other = (s.inner_opt_state for s in (state, without))
        same(inner.inner_state, other.inner_state)
        assert skip_report(state)["skipped"] == 1
        assert skip_report(state)["empirical"] == ["head"]


@pytest.mark.usefixtures("lenient_promotion")
def test_inside_optax_multi_steps_a_nan_stays_in_the_mean():
    """As the page says: Optax resets its mean by a product with zero."""
    tx = accumulating(skip_nonfinite(optimizer("l2_sp")), "l2_sp")
    bad = (0, spoiled("empirical", "head", np.nan))
    _, state = train(tx, "l2_sp", [bad, *3 * [(0, CLEAN)]])
    assert skip_report(state)["in_a_row"] == 2


@pytest.mark.parametrize("inside", [True, False])
def test_injected_hyperparameters(inside):
    def make(weight):
        return optax.chain(dtnh(weight, reference_decay=0.5), optax.sgd(0.1))

    if inside:
        tx = skip_nonfinite(optax.inject_hyperparams(make)(weight=0.5))
    else:
        tx = optax.inject_hyperparams(lambda weight: skip_nonfinite(make(weight)))(0.5)
    bad = (0, spoiled("regularizer", "head", np.inf))
    params, state = train(tx, "pair", [(0, CLEAN), bad, (1, CLEAN)])
    expected, _ = train(tx, "pair", [(0, CLEAN), (1, CLEAN)])
    same(params, expected)
    assert skip_report(state)["skipped"] == 1
    assert optax.tree.get(state, "weight") == 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
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
    g = normal(0)
    state = tx.init(g)
    update = jax.jit(tx.update)
    first, moved = update(GradientPair(g, g), state, value=2.0)
    _, skipped = update(GradientPair(g, g), state, value=np.nan)
    second, _ = update(GradientPair(g, g), skipped, value=2.0)
    same(second, first)
    third, _ = update(GradientPair(g, g), moved, value=2.0)
    assert (third["head"] != first["head"]).all()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_that_are_none(form):
    """As in Optax, with ``params``; and the report still names the right arrays."""
    makers = [l2_sp()] if form == "l2_sp" else []
    tx = skip_nonfinite(optax.chain(*makers, dtnh(reference_decay=0.5)))
    params = {"frozen": np.ones(3, "f"), "w": np.ones(2, "f"), "act": jnp.tanh}
    g = {"frozen": None, "w": np.ones(2, "f"), "act": None}
    bad = {**g, "w": np.float32([np.nan, 1])}
    update, state = stepping(tx, form), tx.init(params)
    chex.assert_trees_all_equal(update(g, state, params)[0], g)
    updates, new = update(bad, state, params)
    chex.assert_trees_all_equal(updates, {**g, "w": np.zeros(2, "f")})
    same(new.inner_state, state.inner_state)
    assert skip_report(new)["empirical"] == ["w"]
    with pytest.raises(ValueError, match="pass `params` to `update` if a gradient"):
        update(g, state, None if form != "l2_sp" else {**params, "frozen": None})


def stepping(tx, form):
    def update(g, state, params):
        if form == "pair":
            return tx.update(GradientPair(g, g), state, params)
        kwargs = {"regularizer_grads": g} if form == "keyword" else {}
        return tx.update(g, state, params, **kwargs)

    return update


@pytest.mark.parametrize("half", GradientPair._fields)
def test_around_what_makes_the_pair_alone(half):
    """The update is a pair then, of which both halves are checked."""
    tx = skip_nonfinite(l2_sp(pretrained=ANCHOR))
    params = dict(START)
    g = dict(normal(2))
    broken = g if half == "empirical" else params
    broken["head"] = jnp.float32(np.nan)
    updates, state = tx.update(g, tx.init(START), params)
    same(updates, GradientPair(*2 * [jax.tree.map(jnp.zeros_like, START)]))
    assert skip_report(state)["updates"] == ["head"]
    updates, state = tx.update(START, state, START)
    assert skip_report(state)["in_a_row"] == 0
    assert isinstance(updates, GradientPair)


def test_arrays_that_are_no_parameters_are_an_error():
    tx = skip_nonfinite(optax.identity())
    state = tx.init({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=re.escape("array at ['v'], but the param")):
        tx.update({"v": jnp.ones(2)}, state, {"w": jnp.ones(2)})


def test_a_tree_without_leaves():
    tx = skip_nonfinite(optax.identity())
    updates, state = tx.update({}, tx.init({}))
    assert updates == {}
    assert skip_report(state)["skipped"] == 0


def test_inside_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = skip_nonfinite(optax.chain(dtnh(reference_decay=0.5), optax.sgd(0.1)))
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


def apply_if_finite(place, head):
    sgd = optax.sgd(0.1)
    if place == "around":
        return optax.apply_if_finite(optax.chain(head, sgd), 3)
    return optax.chain(head, optax.apply_if_finite(sgd, 3))


@pytest.mark.parametrize("half", GradientPair._fields)
@pytest.mark.parametrize("form", ["pair", "keyword"])
def test_apply_if_finite_behind_dtnh_skips_counts_and_recovers(form, half):
    """Without an average: there is nothing in dtnh for a NaN to stay in."""
    tx = apply_if_finite("behind", GROUPWISE())
    clean = [(row, CLEAN) for row in range(STEPS)]
    bad = (0, spoiled(half, "head", np.nan))
    expected, _ = train(tx, form, clean)
    params, state = train(tx, form, [*clean[:3], bad, *clean[3:]])
    same(params, expected)
    assert state[1].total_notfinite == 1
    # But what dtnh counts, it has counted.
    assert state[0].count == STEPS + 1


@pytest.mark.parametrize("half", GradientPair._fields)
def test_apply_if_finite_behind_dtnh_comes_too_late_for_an_average(half):
    """One NaN in g stays in the average; after three skips all is NaN."""
    tx = apply_if_finite("behind", GROUPWISE(reference_decay=0.5))
    bad = (0, spoiled(half, "head", np.nan))
    params, state = train(tx, "pair", [(0, CLEAN), bad, *[(1, CLEAN)] * 3])
    poisoned = half == "empirical"
    assert np.isnan(state[0].reference["head"]) == poisoned
    assert np.isnan(params["head"]) == poisoned


def test_apply_if_finite_around_dtnh():
    """It takes no pair, and with the keyword never looks at the regularizer."""
    tx = apply_if_finite("around", GROUPWISE())
    with pytest.raises(TypeError, match="GradientPair"):
        train(tx, "pair", [(0, CLEAN)])
    for half, leaks in (("empirical", False), ("regularizer", True)):
        bad = (0, spoiled(half, "head", np.nan))
        params, state = train(tx, "keyword", [(0, CLEAN), bad])
        assert np.isnan(params["head"]) == leaks
        assert state.total_notfinite == (0 if leaks else 1)


def test_report_of_no_state_of_several_and_under_jit():
    tx = skip_nonfinite(dtnh())
    state = tx.init(START)
    with pytest.raises(
        ValueError, match="0 states of skip_nonfinite in this DtnhState"
    ):
        skip_report(dtnh().init(START))
    with pytest.raises(ValueError, match="2 states of skip_nonfinite in this tuple"):
        skip_report((state, state))
    with pytest.raises(TypeError, match=re.escape("skip_report reads values")):
        jax.jit(skip_report)(state)


def test_a_state_restored_from_bytes_still_knows_its_leaves():
    serialization = pytest.importorskip("flax.serialization")
    tx = WRAPPED["pair"]
    _, state = train(tx, "pair", [(0, spoiled("empirical", "head", np.nan))])
    raw = serialization.to_bytes(state)
    restored = serialization.from_bytes(tx.init(normal(5)), raw)
    assert skip_report(restored) == skip_report(state)
    assert isinstance(restored.last, NotFinite)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: skip_nonfinite(dtnh), TypeError, "`tx` must be an optax.Gradient"),
        (lambda: skip_nonfinite(dtnh(), 0), ValueError, "must be at least 1, got 0"),
        (lambda: skip_nonfinite(dtnh(), 1.5), TypeError, "must be an integer, got 1.5"),
        (
            lambda: skip_nonfinite(dtnh()).update(
                START, skip_nonfinite(dtnh()).init(START)
            ),
            TypeError,
            "dtnh needs two gradients",
        ),
        (
            lambda: skip_nonfinite(dtnh()).update(
                GradientPair({"w": jnp.ones(2)}, {"w": jnp.ones(2)}),
                skip_nonfinite(dtnh()).init(START),
            ),
            ValueError,
            "was given 1 arrays, but `init` got 3",
        ),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=re.escape(says)):
        act()
