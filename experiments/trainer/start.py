"""Where a run starts, and what its regularizer compares with: a file in its folder.

It lies there because the regularizer needs it to the end: a run that goes on must not
depend on a cache. It is made once, by one process.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jax
import numpy as np
from rich.console import Console
from safetensors.numpy import load_file, save_file

from experiments import delta, digests, networks
from experiments.data import load
from experiments.finetune import HEAD
from experiments.networks import Upper
from experiments.pretrain import pretrained_on
from experiments.progress import Reporter
from experiments.step import Reference
from experiments.trainer import names
from experiments.trainer.config import Train
from experiments.trainer.processes import meet
from experiments.trainer.task import Task, task_of

FILE = "start.safetensors"


def starting_point(config: Train, task: Task) -> tuple[networks.Params, Reference, str]:
    """The parameters to begin with, what to compare with, and the file's SHA-256.

    All arrays are NumPy's. Every process calls this; where the file is missing, the
    first one makes it and the others wait.
    """
    path = config.out / FILE
    if jax.process_index() == 0 and not path.exists():
        if jax.process_count() == 1:
            make(config)
        else:
            # In a process of its own: Orbax, behind the cache of pretrained networks,
            # would wait for the other processes of this one to join in.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                alone.submit(make, config).result()
    meet("starting point")
    leaves = load_file(path)
    like = jax.eval_shape(task.architecture.init, jax.random.key(0))
    params = names.unflatten({"params": like}, leaves)["params"]
    channels = {
        name.removeprefix("channels."): leaf
        for name, leaf in leaves.items()
        if name.startswith("channels.")
    }
    reference = Reference(networks.anchor(params), channels or None)
    return params, reference, digests.of_file(path)


def make(config: Train) -> None:
    """Pretrains, or takes from the cache, and writes the file, whole or not at all."""
    task = task_of(config)
    params = _pretrained(config, task)
    key = jax.random.fold_in(jax.random.key(config.seed), HEAD)
    params = {**params, "head": task.architecture.init(key)["head"]}
    tree = {"params": params}
    if task.method.towards == "channels":
        one = jax.tree.map(lambda x: x[None], params)
        weights = delta.channel_weights(
            task.architecture, one, task.dataset, task.train[None]
        )
        tree["channels"] = jax.tree.map(lambda x: x[0], weights)
    config.out.mkdir(parents=True, exist_ok=True)
    partial = config.out / f"{FILE}.partial"
    save_file({key: np.asarray(x) for key, x in names.flatten(tree).items()}, partial)
    partial.replace(config.out / FILE)


def _pretrained(config: Train, task: Task) -> networks.Params:
    if isinstance(task.architecture, Upper):
        return task.architecture.pretrained()
    source = load(config.source, networks.Architecture().side)
    reporter = Reporter(Console(stderr=True))
    body = pretrained_on(source, config.epochs, 1, config.cache, reporter.warn)
    return jax.tree.map(lambda x: x[0], body.params)
