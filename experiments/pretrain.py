"""Networks pretrained here on a source data set, and kept in a cache.

A cache entry is one file, named by a hash of everything that determines it. It gets its
name only when it is complete. An entry that cannot be read is made again.
"""

import dataclasses
import os
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from experiments import digests
from experiments.data import Dataset
from experiments.methods import method
from experiments.networks import Params, Spec
from experiments.progress import Reporter
from experiments.recipe import Recipe
from experiments.training import names
from experiments.training.job import Job
from experiments.training.loop import fit

# Increase by hand when a change here or in `training` changes the pretrained networks.
VERSION = 3


def pretrain(
    spec: Spec,
    recipe: Recipe,
    dataset: Dataset,
    seeds: range,
    cache: Path,
    reporter: Reporter,
    begin: Params | None = None,
) -> Params:
    """Networks pretrained on ``dataset``, one per seed, trained or read from the cache.

    Args:
      spec: the networks' spec; their head gets the classes of ``dataset``.
      recipe: how to pretrain; all images of ``dataset`` are used.
      dataset: the source.
      seeds: one per network; they vary the initial weights and the order of the images.
      cache: folder of the cache; created if missing.
      reporter: shows the progress.
      begin: initial parameters of every body; ``None`` for random ones.

    Returns:
      Parameters; every array has a leading axis of seeds.
    """
    spec = dataclasses.replace(spec, classes=dataset.classes)
    path = (
        cache / f"pretrained-{_name(spec, recipe, dataset, seeds, begin)}.safetensors"
    )
    if path.exists():
        try:
            return names.unflatten(_like(spec, seeds), load_file(path))
        except (OSError, SafetensorError, KeyError) as error:
            reporter.warn(f"remaking damaged cache entry {path.name}: {error}")
    with reporter.task(f"{dataset.name}: pretraining", 0) as advanced:
        params = fit(_job(spec, recipe, dataset, seeds, begin), advanced).params
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # another may make it too
    arrays = {name: np.asarray(x) for name, x in names.flatten(params).items()}
    save_file(arrays, partial)
    partial.replace(path)
    return params


def _job(spec, recipe, dataset, seeds, begin) -> Job:
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    init_keys, order_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    start = jax.vmap(spec.init)(init_keys)
    if begin is not None:
        body = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (len(seeds), *x.shape)), begin
        )
        start = {**body, "head": start["head"]}
    everything = np.arange(len(dataset.labels), dtype=np.int32)
    members = np.broadcast_to(everything, (len(seeds), everything.size))
    plain = method("plain")
    return Job(spec, plain, recipe, 0.0, start, dataset, members, order_keys)


def _like(spec: Spec, seeds: range) -> Params:
    keys = jax.ShapeDtypeStruct((len(seeds),), jax.random.key(0).dtype)
    return jax.eval_shape(jax.vmap(spec.init), keys)


def _name(spec, recipe, dataset, seeds, begin) -> str:
    arrays = dataset.images, dataset.labels, *jax.tree.leaves(begin)
    settings = {
        "version": VERSION,
        "spec": dataclasses.asdict(spec),
        "recipe": dataclasses.asdict(recipe),
        "seeds": list(seeds),
        "data": digests.of_arrays(*arrays),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "platform": jax.default_backend(),
    }
    return digests.of_json(settings)[:16]
