"""The table holds, row by row and form by form."""

import functools

import numpy as np
import optax
import pytest
import running
import table
from table import Differs, Raises, Right

pytest.importorskip("flax")
pytestmark = pytest.mark.usefixtures("lenient_promotion")

MICROBATCHES = pytest.mark.skipif(
    not hasattr(optax, "microbatching"), reason="newer than this Optax"
)
# Before and after dtnh, a mix is what l2_sp is.
CASES = [
    pytest.param(
        row,
        form,
        id=f"{section} {name} {form}".replace("`", ""),
        marks=MICROBATCHES if "microbatch" in name else (),
    )
    for section, rows in table.SECTIONS.items()
    for name, row in rows.items()
    for form in (*table.COLUMNS, *(["mix"] if rows is table.AROUND else []))
    if row.outcome(form) is not None
]
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
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
            assert not np.max(np.abs(expected - row.reference(problem))) < APART


def test_the_committed_table_is_up_to_date():
    page = table.PAGE.read_text()
    filled, names = table.filled(page)
    assert page == filled, "run `python tests/composition/table.py`, then `make format`"
    assert names == [name for rows in table.SECTIONS.values() for name in rows]
