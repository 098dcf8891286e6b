"""TensorBoard shows what metrics.jsonl says: every step once, however often killed."""

import io
import sys
import time

import event_files
import jax
import numpy as np
import pytest
from matplotlib import image as images

from experiments.errors import InputError
from experiments.trainer import heat_map, loop
from experiments.trainer.checkpoint import Checkpoints
from experiments.trainer.config import Train, check
from experiments.trainer.events import Events
from experiments.trainer.heat_map import HeatMap
from experiments.trainer.metrics import read


def _line(step, cosine=-0.5):
    group = {"cosine": cosine, "conflict": cosine < 0, "removed": 0.5, "rate": 1.0}
    return {"step": step, "loss": 1.0 / step, "groups": {"body": group, "head": group}}


def _steps(folder, tag):
    return [step for step, _ in event_files.shown(folder).get(tag, ())]


def test_it_shows_every_number_of_the_metrics(whole):
    *lines, last = read(whole.out / "metrics.jsonl")
    shown = event_files.shown(whole.out / "tensorboard")
    expected = {
        "loss/empirical": [line["loss"] for line in lines],
        "loss/penalty": [line["penalty"] for line in lines],
        "learning_rate": [0.03] * len(lines),
        "conflict/rate": [line["conflict_rate"] for line in lines],
    }
    for group in lines[0]["groups"]:
        for name in ("cosine", "removed"):
            column = [line["groups"][group][name] for line in lines]
            expected[f"{name}/{group}"] = column
    assert len(lines[0]["groups"]) == 5
    assert expected["loss/penalty"][-1] > expected["loss/penalty"][0] > 0
    for tag, values in expected.items():
        steps = range(1, whole.steps + 1)
        pairs = zip(steps, np.float32(values).tolist(), strict=True)
        assert shown.pop(tag) == list(pairs), tag
    ((step, accuracy),) = shown.pop("accuracy/held_out")
    assert (step, accuracy) == (whole.steps, np.float32(last["accuracy"]))
    assert [step for step, _ in shown.pop("conflict/cosine")] == [25, 50, 60]
    assert not shown


def test_the_pictures_are_png_files_of_the_size_they_say(whole):
    found = [
        value.image
        for event in event_files.all_records(whole.out / "tensorboard")
        for value in event.summary.value
        if value.HasField("image")
    ]
    for picture in found:
        pixels = images.imread(io.BytesIO(picture.encoded_image_string), "png")
        size = (picture.height, picture.width, picture.colorspace)
        assert pixels.shape == size
        assert pixels[..., :3].std() > 0.1  # not blank
    assert len({picture.encoded_image_string for picture in found}) == 3


def test_a_run_that_goes_on_shows_no_step_twice_and_none_is_missing(tmp_path):
    with Events(tmp_path, [], 0, image_every=5) as events:
        for step in range(1, 8):
            events.write(**_line(step))
    with Events(tmp_path, [_line(s) for s in range(1, 6)], 5, 5) as events:
        for step in range(6, 10):
            events.write(**_line(step))
    assert _steps(tmp_path, "loss/empirical") == list(range(1, 10))
    assert _steps(tmp_path, "conflict/cosine") == [5]


def test_a_picture_is_the_same_whether_the_run_went_on_or_not(tmp_path):
    lines = [_line(step, cosine=np.sin(step)) for step in range(1, 11)]
    with Events(tmp_path / "whole", [], 0, 10) as events:
        for line in lines:
            events.write(**line)
    with Events(tmp_path / "went on", lines[:7], 7, 10) as events:
        for line in lines[7:]:
            events.write(**line)
    whole, went_on = (
        event_files.shown(tmp_path / name)["conflict/cosine"]
        for name in ("whole", "went on")
    )
    assert whole == went_on


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_finished_run_that_is_run_again_shows_its_end_once(tmp_path, log_every):
    lines = [_line(step) for step in range(log_every, 11, log_every)]
    with Events(tmp_path, [], 0, image_every=10) as events:
        for line in lines:
            events.write(**line)
        events.write(step=10, accuracy=0.5)
    before = event_files.shown(tmp_path)
    with Events(tmp_path, lines, 10, image_every=10) as events:
        events.write(step=10, accuracy=0.5)
    assert event_files.shown(tmp_path) == before
    assert before["accuracy/held_out"] == [(10, 0.5)]
    assert [step for step, _ in before["conflict/cosine"]] == [10]


def test_what_is_saved_is_in_the_event_files_before(run, config, monkeypatch):
    config, found = config(steps=14, save_every=7), {}
    save = Checkpoints.save

    def looked_at(self, step, state):
        found[step] = _steps(config.out / "tensorboard", "loss/empirical")
        save(self, step, state)

    monkeypatch.setattr(Checkpoints, "save", looked_at)
    run(config)
    assert found == {step: list(range(1, step + 1)) for step in (7, 14)}


def test_it_is_written_where_it_is_asked_for_by_the_first_process(config, monkeypatch):
    assert loop._events(config(tensorboard=False), [], 0) == []
    for process in (1, 0):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found = loop._events(config(), [], 0)
        assert len(found) == (process == 0)
    (events,) = found
    events.__exit__()


def test_what_was_flushed_is_in_the_file_and_little_else_waits(tmp_path, monkeypatch):
    with Events(tmp_path, [], 0, 100) as events:
        events.write(**_line(1))
        events.flush()
        assert _steps(tmp_path, "loss/empirical") == [1]
        events.write(**_line(2))
        assert _steps(tmp_path, "loss/empirical") == [1]
        monkeypatch.setattr(time, "monotonic", lambda: events._flushed + 5.1)
        events.write(**_line(3))
        assert _steps(tmp_path, "loss/empirical") == [1, 2, 3]


def test_without_a_regularizer_there_is_no_picture(tmp_path):
    with Events(tmp_path, [], 0, 1) as events:
        events.write(step=1, loss=1.0, penalty=None, conflict_rate=None, groups={})
        events.write(step=1, accuracy=0.5)
    assert event_files.shown(tmp_path).keys() == {"loss/empirical", "accuracy/held_out"}


def test_a_heat_map_of_a_long_run_is_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr(heat_map, "COLUMNS", 8)
    columns = HeatMap()
    for step in range(1, 101):
        columns.add(_line(step))
    steps = [step for step, _ in columns.columns]
    assert 4 <= len(steps) <= 8
    assert set(np.diff(steps)) == {16}


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    check(Train(tensorboard=True))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    check(Train())
    with pytest.raises(InputError, match=r"pip install 'dtnh-jax\[tensorboard\]'"):
        check(Train(tensorboard=True))
