"""The training loop of pretraining, studies and ``finetune``.

Trains one network per seed, all at once, as a ``lax.scan`` over steps mapped over
seeds. A run is split into pieces of equal length. So there is only one compilation, and
the run can show progress, validate and save between pieces.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from experiments import networks
from experiments.data import Dataset
from experiments.methods import Method
from experiments.recipe import Recipe
from experiments.training.checkpoints import Checkpoints
from experiments.training.devices import Layout, layout
from experiments.training.evaluate import probabilities, right
from experiments.training.interruption import Interrupted, Interruption
from experiments.training.job import Job, draw
from experiments.training.step import Measured, State, Teacher, step

# What the steps measure is averaged over this many parts of a piece.
POINTS = 4


class Progress(NamedTuple):
    """The progress of a run, as saved in a checkpoint. The shapes never change.

    Attributes:
      state: state of all seeds after the last piece.
      trace: means of what the steps measured, ``[S, points, ...]``; NaN for later
        steps.
      validation: accuracy after each chunk, ``[chunks, S]``; NaN for later chunks;
        ``None`` without validation images.
      best: the parameters after the chunk with the highest mean validation accuracy,
        the first one if tied; ``None`` without validation images.
    """

    state: State
    trace: Measured
    validation: Any = None
    best: Any = None


class Fitted(NamedTuple):
    """The result of a run.

    Attributes:
      params: the best parameters by validation accuracy, or the last ones.
      opt_state: the last optimizer state.
      trace: as in ``Progress``.
      validation: as in ``Progress``.
      step: the step after which ``params`` were taken.
    """

    params: networks.Params
    opt_state: Any
    trace: Measured
    validation: np.ndarray | None
    step: int


class _Program(NamedTuple):
    """The static arguments of a compiled program. The learning rate is traced."""

    spec: networks.Spec
    method: Method
    recipe: Recipe
    points: int
    over: Layout

    def transformation(self, weight: Any = 0.0, learning_rate: Any = 0.0):
        scalars = jnp.float32(weight), jnp.float32(learning_rate)
        return self.method.transformation(*scalars, self.recipe)


def fit(
    job: Job,
    advanced: Callable[[float], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    over: Layout | None = None,
    live: Callable[[int, Progress], None] | None = None,
) -> Fitted:
    """Trains to the last step, from the newest checkpoint if there is one.

    Args:
      job: what to train.
      advanced: called first with the share of the run that was already done, then after
        every piece with its share.
      checkpoints: where to save after every chunk; ``None`` to save nothing.
      over: the devices; by default as many as divide a batch, each with the whole
        state.
      live: called after every piece with the number of steps so far and the progress.

    Raises:
      FloatingPointError: as soon as a loss is not finite; says at which step.
      Interrupted: after Ctrl-C or SIGTERM, once the piece is finished and saved.
    """
    if over is None:
        over = layout(devices=math.gcd(job.recipe.batch_size, jax.device_count()))
    over.check_batch(job.recipe.batch_size)
    steps, piece = job.recipe.steps, job.piece
    points = max(n for n in range(1, POINTS + 1) if piece % n == 0)
    recipe = dataclasses.replace(job.recipe, learning_rate=1.0)
    program = _Program(job.spec, job.method, recipe, points, over)
    teacher = Teacher(job.params, job.channel_weights) if job.method.distills else None
    varied = over.whole((teacher, np.float32(job.weight), job.recipe.learning_rate))
    order, keys = draw(job)
    progress, done = _begin(job, program), 0
    if checkpoints is not None:
        progress, number = checkpoints.restore(progress)
        done = number * piece
        if 0 < done < steps:
            checkpoints.say(f"resuming at step {done} of {steps}")
    advanced(done / steps)
    with Interruption() as interruption:
        while done < steps:
            now = slice(done, done + piece)
            batches = _batches(job.dataset, order[:, now], over)
            state, measured = _advance(
                program, progress.state, *varied, *batches, over.whole(keys[:, now])
            )
            done += piece
            progress = _noted(job, progress, state, measured, done)
            _check(job, progress, done)
            number = done // piece
            stops = interruption.reached(number)
            if checkpoints is not None and (stops or done % job.chunk == 0):
                checkpoints.save(number, progress)
            advanced(piece / steps)
            if live is not None:
                live(done, progress)
            if stops:
                raise Interrupted(f"stopped at step {done} of {steps}")
    if progress.validation is None:
        params, at = progress.state.params, steps
    else:
        params = progress.best
        at = (best_chunk(progress.validation) + 1) * job.chunk
    params, opt_state = _gathered((params, progress.state.opt_state))
    return Fitted(params, opt_state, progress.trace, progress.validation, at)


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def _advance(
    program: _Program,
    state: State,
    teacher: Teacher | None,
    weight: jax.Array,
    learning_rate: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
) -> tuple[State, Measured]:
    """Runs a piece for every seed; returns the state and means ``[S, points, ...]``."""
    tx = program.transformation(weight, learning_rate)

    def one_seed(state, teacher, images, labels, keys):
        def one_step(state, batch):
            images, labels, key = batch
            batch = images, labels, jax.random.wrap_key_data(key)
            return step(
                program.spec, program.method, program.recipe, tx, state, teacher, batch
            )

        return jax.lax.scan(one_step, state, (images, labels, keys))

    state, measured = jax.vmap(one_seed)(state, teacher, images, labels, keys)

    def means(x):
        seeds, steps, *groups = x.shape
        parts = program.points, steps // program.points
        return x.reshape(seeds, *parts, *groups).mean(axis=2)

    found = jax.tree.map(means, measured)
    whole = jax.lax.with_sharding_constraint(found, program.over.replicated)
    return program.over.divided(state), whole


@functools.partial(jax.jit, static_argnames="program")
def _start(program: _Program, params: networks.Params) -> State:
    tx = program.transformation()
    return program.over.divided(State(params, jax.vmap(tx.init)(params)))


def _begin(job: Job, program: _Program) -> Progress:
    state = _start(program, program.over.whole(job.params))
    dtnh: Any = optax.tree.get(state.opt_state, "DtnhState", None)
    steps = job.recipe.steps
    shape = len(job.train), steps // job.piece * program.points

    def blank(*shape: int) -> np.ndarray:
        return np.full(shape, np.nan, np.float32)

    trace = Measured(blank(*shape))
    if dtnh is not None:
        groups = dtnh.conflict.cosine.shape[-1]
        trace = Measured(*trace[:1], *(blank(*shape, groups) for _ in range(3)))
    if job.validation is None:
        return Progress(state, trace)
    best = jax.tree.map(jnp.copy, state.params)
    return Progress(state, trace, blank(steps // job.chunk, len(job.train)), best)


def _batches(dataset: Dataset, rows: np.ndarray, over: Layout) -> list[jax.Array]:
    """Images and labels of the rows ``[S, steps, n]``; reads only this process's."""

    def of(values: np.ndarray) -> jax.Array:
        shape = (*rows.shape, *values.shape[1:])
        return over.batches(shape, lambda index: values[rows[index[:3]]])

    return [of(dataset.images), of(dataset.labels)]


def _noted(
    job: Job, before: Progress, state: State, measured: Measured, done: int
) -> Progress:
    """The progress after one more piece, which ends at step ``done``."""
    trace = jax.tree.map(np.copy, before.trace)
    for whole, part in zip(trace, jax.device_get(measured), strict=True):
        if part is not None:
            points = part.shape[1]
            end = done // job.piece * points
            whole[:, end - points : end] = part
    if job.validation is None:
        return Progress(state, trace)
    if done % job.chunk:
        return before._replace(state=state, trace=trace)
    params = _gathered(state.params)
    found = probabilities(
        job.spec, params, job.dataset, job.validation, job.recipe.crop
    )
    chunk = done // job.chunk - 1
    validation = np.copy(before.validation)
    validation[chunk] = right(found, job.dataset, job.validation)
    best = before.best
    if best_chunk(validation) == chunk:
        # Copied, because the next piece donates the state.
        best = jax.tree.map(jnp.copy, state.params)
    return Progress(state, trace, validation, best)


def _gathered(state: Any) -> Any:
    """The arrays of a state, whole, so that each process can read them alone."""
    if jax.process_count() == 1:
        return state
    return multihost_utils.process_allgather(state, tiled=True)


def best_chunk(validation: np.ndarray) -> int:
    """The chunk with the highest mean accuracy, the first one if tied."""
    return int(np.nanargmax(validation.mean(axis=1)))


def _check(job: Job, progress: Progress, done: int) -> None:
    """Raises if losses or parameters are not finite."""
    losses = progress.trace.loss
    known = losses[:, : losses.shape[1] * done // job.recipe.steps]
    if not np.isfinite(known).all() or not _all_finite(progress.state.params):
        ruled = job.method.rule is not None
        raise FloatingPointError(
            f"{job.method.label} ({job.recipe.optimizer}, learning rate "
            f"{job.recipe.learning_rate:g}{f', λ = {job.weight:g}' * ruled}) on "
            f"{job.dataset.name} has a loss or parameters that are not finite at step "
            f"{done}; a lower learning rate{' or λ' * ruled} may help"
        )


@jax.jit
def _all_finite(params: networks.Params) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()
