"""Lines are neither lost nor written twice."""

import json

from experiments.trainer.metrics import Metrics, read


def _write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_that_goes_on_drops_what_it_does_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, *({"step": step, "loss": 1.0} for step in (10, 20, 30)))
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    Metrics(path, 20).write(step=30, loss=2.0)
    assert [(line["step"], line["loss"]) for line in read(path)] == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
    ]
    assert path.read_text().endswith("\n")


def test_the_accuracy_is_written_again_and_not_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, {"step": 20, "loss": 1.0}, {"step": 20, "accuracy": 0.5})
    Metrics(path, 20).write(step=20, accuracy=0.5)
    assert len(read(path)) == 2


def test_a_new_run_begins_a_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, {"step": 1, "loss": 1.0})
    Metrics(path, 0)
    assert read(path) == []
