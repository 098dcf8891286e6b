"""A grid runs every cell once, goes on where it was, and survives cells that fail."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.errors import InputError
from experiments.grid import choose, plan
from experiments.grid import run as module
from experiments.grid.config import SmallGrid


def _cells(lines):
    return [json.loads(line) for line in lines[1:]]


def _untimed(lines):
    return [{**record, "seconds": None} for record in _cells(lines)]


def test_every_cell_of_the_plan_is_one_line(finished, tiny):
    found = _cells(finished)
    rates = choose.rates(choose.latest(found))
    planned = set(plan.cells(dataclasses.asdict(tiny), rates))
    assert {plan.key_of(record) for record in found} == planned
    assert len(found) == len(planned)
    assert len(planned) == 2 * 3 * 2


def test_a_regularizer_is_tried_at_the_rate_that_plain_fine_tuning_chose(finished):
    records = choose.latest(_cells(finished))
    rates = choose.rates(records)
    assert len(rates) == 2
    for key in records:
        if key.weight is not None:
            assert key.learning_rate == rates[key.place]


def test_every_method_has_as_many_trials(tiny):
    config = dataclasses.asdict(tiny)
    assert plan.trials(config, "plain", 0.1) == [(None, 0.01), (None, 0.03)]
    assert plan.trials(config, "delta", 0.1) == [(0.1, 0.1), (1.0, 0.1)]


def test_a_line_holds_what_the_report_needs_and_is_small(finished):
    for line, record in zip(finished[1:], _cells(finished), strict=True):
        assert len(line) < 4000
        assert len(record["accuracy"]) == len(record["validation"]) == 2
        assert len(record["validation_curve"]) == 10
        best = int(np.argmax(record["validation_curve"]))
        assert record["step"] == best + 1
        np.testing.assert_allclose(
            np.mean(record["validation"]), record["validation_curve"][best], atol=1e-3
        )
        if record["method"] == "plain":
            assert "cosine" not in record
        else:
            assert record["groups"][-1] == "head"
            assert np.shape(record["cosine"]) == (10, 5)


@pytest.mark.slow
def test_it_goes_on_where_it_was(finished, tiny, run_quietly, tmp_path):
    path = tmp_path / "cells.jsonl"
    path.write_text("".join(finished[:-3]) + finished[-3][:50])
    run_quietly(tiny, tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    assert lines[:-3] == finished[:-3]
    assert _untimed(lines) == _untimed(finished)
    run_quietly(tiny, tmp_path)
    assert path.read_text().splitlines(keepends=True) == lines


def test_another_grid_is_refused(finished, tiny, run_quietly, tmp_path):
    path = tmp_path / "cells.jsonl"
    path.write_text("".join(finished))
    with pytest.raises(InputError, match="holds a study with"):
        run_quietly(dataclasses.replace(tiny, per_class=3), tmp_path)
    assert path.read_text() == "".join(finished)


def test_a_cell_that_diverges_is_recorded_once(tiny, run_quietly, tmp_path):
    grid = dataclasses.replace(
        tiny, pairs=tiny.pairs[:1], methods=("plain",), learning_rates=(1e30, 0.01)
    )
    path = run_quietly(grid, tmp_path)
    diverged, fine = _cells(path.read_text().splitlines())
    assert "not finite at step" in diverged["diverged"]
    assert "accuracy" in fine
    before = path.read_text()
    run_quietly(grid, tmp_path)
    assert path.read_text() == before


def test_a_cell_that_fails_is_recorded_and_tried_again(
    tiny, run_quietly, tmp_path, monkeypatch
):
    grid = dataclasses.replace(tiny, pairs=tiny.pairs[:1], methods=("plain",))
    real = module.finetune

    def out_of_memory(*arguments):
        if arguments[5].learning_rate == 0.01:
            raise MemoryError("no room")
        return real(*arguments)

    monkeypatch.setattr(module, "finetune", out_of_memory)
    path = run_quietly(grid, tmp_path)
    failed, fine = _cells(path.read_text().splitlines())
    assert failed["error"] == "MemoryError: no room"
    assert "accuracy" in fine
    monkeypatch.undo()
    run_quietly(grid, tmp_path)
    *_, again = _cells(path.read_text().splitlines())
    assert again["learning_rate"] == 0.01
    assert "accuracy" in again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("plian",)}, "unknown method 'plian'; known: plain, l2, l2-sp"),
        ({"weights": (1.0,)}, "got 1 weights and 2 learning rates"),
        ({"weights": (0.0, 1.0)}, "λ must be positive, got 0"),
        ({"pairs": ()}, "pairs of a grid must name at least one"),
        ({"seeds": 1}, "seeds must be at least 2, got 1"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(tiny, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(tiny, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": (("svhn", "digits"),)}, "unknown data set 'svhn'; known: mnist"),
        ({"batch_sizes": (5, 500)}, "batch of 500 images does not fit into the 20"),
        ({"per_class": 100}, "at most 173"),
    ],
)
def test_what_the_data_cannot_give_is_said_before_any_work(
    tiny, change, message, run_quietly, tmp_path
):
    with pytest.raises(InputError, match=message):
        run_quietly(dataclasses.replace(tiny, **change), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_typing_error_in_a_configuration_names_the_field():
    with pytest.raises(TypeError, match="batchsizes"):
        SmallGrid(batchsizes=(1,))  # pyright: ignore


def test_the_quick_form_is_a_part_of_the_grid(tiny):
    quick = tiny.shortened()
    assert set(quick.pairs) <= set(tiny.pairs)
    assert (quick.seeds, quick.recipe.steps) == (2, 10)
