"""One process: what a run writes, and that it goes on where it was."""

import dataclasses
import os
import signal

import comparing
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.errors import InputError
from experiments.trainer import layout, loop, preemption
from experiments.trainer.loader import Loader
from experiments.trainer.metrics import read
from experiments.trainer.start import FILE
from experiments.trainer.task import task_of


@pytest.fixture
def stopped_at(monkeypatch):
    """Sends SIGTERM to this process, in which the run is, at a step."""

    def stop(at):
        reached = preemption.Preemption.reached

        def asked(self, step):
            if step == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return reached(self, step)

        monkeypatch.setattr(preemption.Preemption, "reached", asked)

    return stop


def test_a_run_learns_and_says_so_line_by_line(whole):
    *lines, last = read(whole.out / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, whole.steps + 1))
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])
    assert all(0 <= line["conflict_rate"] <= 1 for line in lines)
    assert last["step"] == whole.steps
    assert last["accuracy"] > 0.25  # of ten classes, from random parameters


def test_sigterm_saves_and_the_run_goes_on_bit_for_bit(run, config, whole, stopped_at):
    parts = config()
    before = signal.getsignal(signal.SIGTERM)
    stopped_at(27)  # not a step after which there is a checkpoint anyway
    outcome = run(parts)
    assert (int(outcome.state.step), outcome.accuracy) == (27, None)
    assert signal.getsignal(signal.SIGTERM) == before
    stopped_at(None)
    assert run(parts).accuracy is not None
    comparing.assert_same(parts, whole)


@pytest.mark.slow
def test_averages_and_anchors_of_the_steady_rule_resume_bit_for_bit(
    run, config, stopped_at
):
    whole, parts = (config(method="steady-kd", steps=6) for _ in range(2))
    assert run(whole).accuracy is not None
    stopped_at(3)
    assert run(parts).accuracy is None
    stopped_at(None)
    run(parts)
    comparing.assert_same(parts, whole)


def test_a_finished_run_stays_as_it_is(run, whole):
    text = (whole.out / "metrics.jsonl").read_text()
    run(whole)
    assert (whole.out / "metrics.jsonl").read_text() == text


def test_a_run_of_another_configuration_is_refused(run, config, whole):
    other = config(out=whole.out, weight=0.5)
    with pytest.raises(InputError, match=r"a run with weight = 0\.1, here it is 0\.5"):
        run(other)


def test_how_often_to_save_may_differ_when_a_run_goes_on(
    run, config, whole, stopped_at
):
    parts = config()
    stopped_at(21)
    run(parts)
    stopped_at(None)
    run(config(out=parts.out, save_every=15, keep=1))
    comparing.assert_same(parts, whole)
    assert len(list((parts.out / "checkpoints").iterdir())) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(
    run, config, monkeypatch
):
    config = config(save_every=1, log_every=100)
    task = task_of(config)
    row = Loader(task, layout.batches(layout.mesh())).rows(5)[0]
    images = task.dataset.images.copy()
    images[row] = np.nan
    dataset = dataclasses.replace(task.dataset, images=images)
    monkeypatch.setattr(
        loop, "task_of", lambda _: dataclasses.replace(task, dataset=dataset)
    )
    with pytest.raises(FloatingPointError, match="not finite at step"):
        run(config)
    found = comparing.state(config)
    assert found["step"] >= 1
    assert all(np.isfinite(x).all() for x in found.values())


def test_an_update_that_is_not_finite_is_not_saved(run, config):
    """Its own loss is finite: a loss sees it only in the step after it."""
    config = config(save_every=1)
    params = load_file(config.out / FILE)
    # Forwards 1e-30 meets 1e10 four times; backwards they meet first, and overflow.
    for name in params:
        params[name] *= np.float32(1e-30 if "conv1" in name else 1e10)
    save_file(params, config.out / FILE)
    with pytest.raises(FloatingPointError, match=r"step 1 of .* not finite"):
        run(config)
    (line,) = read(config.out / "metrics.jsonl")
    assert np.isfinite(line["loss"])
    assert not list((config.out / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "method", ["plain", pytest.param("kd-layer", marks=pytest.mark.slow)]
)
def test_other_kinds_of_methods_train(run, config, method):
    config = config(method=method, steps=2)
    run(config)
    *lines, _ = read(config.out / "metrics.jsonl")
    assert len(lines) == 2
    assert (lines[0]["conflict_rate"] is None) == (method == "plain")
