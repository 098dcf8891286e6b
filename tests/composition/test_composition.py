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

from dtnh_jax import GradientPair, dtnh, multi_steps, skip_nonfinite

pytest.importorskip("flax")
pytestmark = pytest.mark.usefixtures("lenient_promotion")

CASES = [
    pytest.param(row, form, id=f"{section} {row.name} {form}".replace("`", ""))
    for section, rows in table.SECTIONS.items()
    for row, form in itertools.product(rows, table.FORMS)
    if not isinstance(getattr(row, form), Absent)
]
TOLERANCE = 1e-5
close = functools.partial(np.testing.assert_allclose, rtol=TOLERANCE, atol=TOLERANCE)
APART = 5e-4  # what is told apart here lies at least so far apart


@pytest.mark.parametrize(("row", "form"), CASES)
def test_composition(row, form):
    problem = running.problem(row, form)
    match getattr(row, form):
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


def distance(a, b):
    return np.max(np.abs(a - b))


@pytest.mark.parametrize("fixed_anchor", [False, True])
def test_the_problem_tells_apart_what_the_table_does(fixed_anchor):
    """Every step has conflict, and no two references come near to each other."""
    p = ref.problem(fixed_anchor)
    w = p.start
    for t in range(ref.STEPS):
        g, r = p.gradients(w, t)
        assert g @ r < -0.3 * ref.norm(g) * ref.norm(r)
        w = w - ref.RATE * ref.joint(g, r)
    np.testing.assert_array_equal(w, ref.plain(p))
    references = {row.reference for rows in table.SECTIONS.values() for row in rows}
    ends = {f: f(p) for f in [*references, ref.plain_sum]}
    same_without_nan = {ref.nan_as_zero, ref.nan_as_zero_behind, ref.finite_only}
    for a, b in itertools.combinations(ends, 2):
        if not {a, b} <= same_without_nan | {ref.plain}:
            assert distance(ends[a], ends[b]) > APART


def test_the_committed_table_is_up_to_date():
    assert table.FRAGMENT.read_text() == table.markdown(), (
        "run `python tests/composition/table.py`, then `make format`"
    )


def test_what_the_page_says_of_nan_in_averages():
    """apply_if_finite behind dtnh comes too late for them; what is around does not."""
    g, r = jnp.array([jnp.nan, 1.0]), jnp.ones(2)
    head = dtnh(reference_decay=0.5, inner=optax.trace(0.9))
    late = optax.chain(head, optax.apply_if_finite(optax.sgd(1.0), 3))
    early = multi_steps(head, 1, should_skip_update_fn=optax.skip_not_finite)
    around = skip_nonfinite(head)
    for tx, finite in ((late, False), (early, True), (around, True)):
        updates, state = tx.update(GradientPair(g, r), tx.init(r))
        assert (updates == 0).all()
        reference, inner = (optax.tree.get(state, k) for k in ("reference", "inner"))
        assert np.isfinite(reference).all() == finite
        assert np.isfinite(inner.trace).all() == finite
