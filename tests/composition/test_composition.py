"""The table holds, row by row and form by form."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import references as ref
import running
import table
from table import Absent, Differs, Raises, Right

from dtnh_jax import GradientPair, dtnh, l2_sp, skip_nonfinite

pytest.importorskip("flax")
pytestmark = pytest.mark.usefixtures("lenient_promotion")

MICROBATCHES = pytest.mark.skipif(
    not hasattr(optax, "microbatching"), reason="newer than this Optax"
)
CASES = [
    pytest.param(
        row,
        form,
        id=f"{section} {row.name} {form}".replace("`", ""),
        marks=MICROBATCHES if "microbatch" in row.name else (),
    )
    for section, rows in table.SECTIONS.items()
    for row, form in itertools.product(rows, table.FORMS)
    if not isinstance(row.outcome(form), Absent)
]
TOLERANCE = 1e-5
close = functools.partial(np.testing.assert_allclose, rtol=TOLERANCE, atol=TOLERANCE)
APART = 2e-4  # the least distance of what is told apart here


@pytest.mark.parametrize(("row", "form"), CASES)
def test_composition(row, form):
    problem = running.problem(row, form)
    match row.outcome(form):
        case Raises(error, words):
            with pytest.raises(error, match=words):
                running.run(row, form)
        case Right(reference):
            expected = (reference or row.reference)(problem)
            assert np.isfinite(expected).all()
            close(running.run(row, form), expected)
        case Differs(reference):
            expected = reference(problem)
            close(running.run(row, form), expected)
            assert not distance(expected, row.reference(problem)) < APART


def test_a_mix_fares_as_l2_sp_does():
    """So that one column tells of both."""
    for row in itertools.chain.from_iterable(table.SECTIONS.values()):
        kinds = type(row.outcome("mix")), type(row.outcome("l2_sp"))
        assert kinds[0] in (kinds[1], Absent)


def distance(a, b):
    return np.max(np.abs(a - b))


@pytest.mark.parametrize("form", ["pair", "l2_sp", "mix"])
def test_the_problem_tells_apart_what_the_table_does(form):
    """Every step has conflict, and no two references come near to each other."""
    p = ref.problem(form)
    w = p.start
    for t in range(ref.STEPS):
        g, r = p.gradients(w, t)
        assert g @ r < -0.3 * ref.norm(g) * ref.norm(r)
        w = w - ref.RATE * ref.joint(g, r)
    np.testing.assert_array_equal(w, ref.plain(p))
    rows = list(itertools.chain.from_iterable(table.SECTIONS.values()))
    references = {row.reference for row in rows} | {
        outcome.reference
        for row in rows
        for outcome in map(row.outcome, table.FORMS)
        if isinstance(outcome, Right | Differs) and outcome.reference
    }
    ends = {f: f(p) for f in [*references, ref.plain_sum]}
    for a, b in itertools.combinations(ends, 2):
        if not any({a, b} <= alike for alike in alike_in(form)):
            assert distance(ends[a], ends[b]) > APART, (a, b)


def alike_in(form):
    """Sets of references that agree in this form's problem."""
    yield {ref.nan_as_zero, ref.nan_as_zero_after, ref.finite_only, ref.plain}
    if form != "pair":  # where the regularizer does not depend on the step
        yield {ref.mean_of_both, ref.mean_of_g_last_r}


def test_the_problem_with_its_anchor_at_the_start_tells_the_projection():
    p = ref.problem("l2_sp", at_init=True)
    ends = [f(p) for f in (ref.plain, ref.plain_sum, ref.in_each_part)]
    for a, b in itertools.combinations(ends, 2):
        assert distance(a, b) > APART


def test_the_committed_table_is_up_to_date():
    assert table.FRAGMENT.read_text() == table.markdown(), (
        "run `python tests/composition/table.py`, then `make format`"
    )


@pytest.mark.parametrize(
    "wrapper", [optax.flatten, optax.contrib.split_real_and_imaginary]
)
def test_a_pretrained_tree_does_not_match_what_a_wrapper_makes(wrapper):
    """Where the table says to leave ``pretrained`` out."""
    params = {"body": jnp.ones(2, complex), "head": jnp.ones(2)}
    if wrapper is optax.flatten:
        params = {"body": jnp.ones(2), "head": jnp.ones(2)}
    with pytest.raises((TypeError, ValueError), match="pretrained"):
        wrapper(l2_sp(pretrained=params)).init(params)


def test_what_the_page_says_of_nan_in_averages():
    """apply_if_finite after dtnh comes too late for them; what is around does not."""
    g, r = jnp.array([jnp.nan, 1.0]), jnp.ones(2)
    head = dtnh(reference_decay=0.5, inner=optax.trace(0.9))
    late = optax.chain(head, optax.apply_if_finite(optax.sgd(1.0), 3))
    for tx, finite in ((late, False), (skip_nonfinite(head), True)):
        updates, state = tx.update(GradientPair(g, r), tx.init(r))
        assert (updates == 0).all()
        reference, inner = (optax.tree.get(state, k) for k in ("reference", "inner"))
        assert np.isfinite(reference).all() == finite
        assert np.isfinite(inner.trace).all() == finite
