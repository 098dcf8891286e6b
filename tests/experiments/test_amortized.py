"""The study of `amortized_value_and_grad`."""

import json

import pytest
from rich.console import Console

from experiments.amortized import AmortizedStudy, run
from experiments.errors import InputError


@pytest.mark.slow
def test_the_promise_is_kept_where_every_step_measures(tmp_path):
    study = AmortizedStudy(
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        every=(1, 3),
        weights=(1.0,),
        seeds=2,
        steps=12,
        epochs=1,
        quiet=True,
    )
    run(study, Console(quiet=True))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    broken = {row["form"]: row["broken"] for row in rows if row["broken"]}
    assert broken["k = 1"]["mean"] == 0
    assert broken["k = 3"]["mean"] > 0  # or the study could not find any
    forms = [row["form"] for row in rows[:5]]
    assert forms == ["plain fine-tuning", "KD", "k = 1", "k = 3", "k = 3, average"]
    assert "| MNIST | 1 | k = 3 |" in (tmp_path / "out" / "table.md").read_text()


def test_too_few_seeds(tmp_path):
    with pytest.raises(InputError, match="seeds must be at least 2, got 1"):
        run(AmortizedStudy(out=tmp_path, seeds=1), Console(quiet=True))
