"""The run, from top to bottom."""

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dtnh_jax import conflict_report
from experiments.networks import Params
from experiments.progress import Reporter
from experiments.provenance import about
from experiments.train import accuracy
from experiments.trainer import layout
from experiments.trainer.checkpoint import Checkpoints
from experiments.trainer.config import Train, settings
from experiments.trainer.live import Live
from experiments.trainer.loader import Loader
from experiments.trainer.lock import alone_in
from experiments.trainer.metrics import Metrics
from experiments.trainer.preemption import Preemption
from experiments.trainer.start import starting_point
from experiments.trainer.step import Measured, State, advance, all_finite, initial
from experiments.trainer.task import Task, task_of


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """How a run ended.

    Attributes:
      state: the last one.
      accuracy: share of the held-out images that are classified rightly; ``None`` if
        the run was asked to end before its last step.
    """

    state: State
    accuracy: float | None


def run(config: Train, reporter: Reporter) -> Outcome:
    """Trains to the last step, from the newest sound checkpoint if there is one.

    Raises:
      InputError: if data are not to be had, the checkpoints are of another run, or
        another run is under way in the folder.
      FloatingPointError: if a loss, or what is to be saved, is not finite.
    """
    with alone_in(config.out):
        return _run(config, reporter)


def _run(config: Train, reporter: Reporter) -> Outcome:
    task = task_of(config)
    params, reference, digest = starting_point(config, task)
    mesh = layout.mesh()
    loader = Loader(task, layout.batches(mesh))
    shardings = functools.partial(layout.shardings, mesh, config.layout)
    params = layout.place(params, shardings(params))
    reference = layout.place(reference, shardings(reference))

    begin = functools.partial(initial, task)
    like = jax.eval_shape(begin, params, reference)
    states = shardings(like)
    like = jax.tree.map(_abstract, like, states)
    first_state = jax.jit(begin, out_shardings=states)
    one_step = jax.jit(
        functools.partial(advance, task),
        donate_argnums=0,
        out_shardings=(states, layout.whole(mesh)),
    )
    sound = jax.jit(all_finite, out_shardings=layout.whole(mesh))
    of_this_run = {
        "settings": settings(config),
        "start": {"sha256": digest},
        "versions": about({})["versions"],
    }
    with (
        Checkpoints(
            config.out, like, of_this_run, config.keep, reporter.warn
        ) as checkpoints,
        Preemption() as preemption,
        contextlib.ExitStack() as opened,
    ):
        state = checkpoints.restore() or first_state(params, reference)
        done = int(state.step)
        metrics = Metrics(config.out / "metrics.jsonl", done)
        name = f"{task.dataset.name}: {task.method.label}"
        live = opened.enter_context(Live(reporter, name, config.steps, done))
        events = list(map(opened.enter_context, _events(config, metrics.kept, done)))
        told = [metrics, live, *events]
        while done < config.steps:
            state, measured = one_step(state, reference, *loader.batch(done))
            done += 1
            stop = preemption.reached(done)
            log = done % config.log_every == 0
            save = done % config.save_every == 0 or stop or done == config.steps
            if log or save:
                # Also where it is not written: to see a NaN before it is saved.
                line = _line(task, done, measured)
            if log:
                for one in told:
                    one.write(**line)
            if save:
                _check(task, done, sound(state))
                for one in events:
                    one.flush()  # a step that is saved is not written again
                checkpoints.save(done, state)
            live.advance()
            if stop and done < config.steps:
                return Outcome(state, None)
        share = _accuracy(task, state.params)
        for one in told:
            one.write(step=done, accuracy=share)
        return Outcome(state, share)


def _events(config: Train, kept: list[dict[str, Any]], done: int) -> list[Any]:
    """What writes for TensorBoard: one, where it is asked for, in process 0."""
    if not config.tensorboard or jax.process_index() > 0:
        return []
    # Here, because it needs a package that only those have who ask for it.
    from experiments.trainer.events import Events

    return [Events(config.out / "tensorboard", kept, done, config.image_every)]


def _abstract(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _line(task: Task, step: int, measured: Measured) -> dict[str, Any]:
    """What a line of the metrics says; waits until the step is done."""
    found = jax.device_get(measured)
    if not np.isfinite(found.loss):
        raise FloatingPointError(
            f"the loss of {task.method.label} (λ = {task.weight:g}) is not finite at "
            f"step {step}; a lower learning rate or λ may help"
        )
    groups = {} if found.dtnh is None else conflict_report(found.dtnh)
    rates = [group["rate"] for group in groups.values()]
    return {
        "step": step,
        "loss": float(found.loss),
        "penalty": None if found.penalty is None else float(found.penalty),
        "learning_rate": float(found.learning_rate),
        "conflict_rate": float(np.mean(rates)) if rates else None,
        "groups": groups,
    }


def _check(task: Task, step: int, sound: jax.Array) -> None:
    """Refuses to save what a last update has broken, whose own loss was finite."""
    if not sound:
        raise FloatingPointError(
            f"step {step} of {task.method.label} (λ = {task.weight:g}) has made "
            "parameters that are not finite; a lower learning rate or λ may help"
        )


def _accuracy(task: Task, params: Params) -> float:
    """On the held-out images, worked out in every process by itself."""
    whole = multihost_utils.process_allgather(params, tiled=True)
    one = jax.tree.map(lambda x: x[None], whole)
    found = accuracy(
        task.architecture, one, task.dataset, task.test[None], task.recipe.crop
    )
    return float(found[0])
