"""Pretrained networks: trained here on a source data set, and kept in a cache.

A cache entry is a folder named by a hash of everything that determines it. It holds the
parameters, written by Orbax, and ``entry.json``, which says what they are and carries
the digests of their files. An entry that cannot be read, or whose digests do not fit,
is reported and made again.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments import digests, networks
from experiments.data import Dataset
from experiments.methods import METHODS
from experiments.recipe import Recipe
from experiments.step import Reference
from experiments.train import accuracy, fit

# Raised by hand when the code here or in `train` changes what pretraining gives or what
# an entry holds.
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Networks pretrained on one source, one a seed.

    Attributes:
      params: every array has a leading axis of seeds.
      accuracy: share of the source's own images that each network gets right,
        float ``[S]``: how well it has learned the source.
      cached: whether it came out of the cache.
    """

    params: networks.Params
    accuracy: np.ndarray
    cached: bool


def _digest(arrays: list[np.ndarray]) -> str:
    """SHA-256 over shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def describe(
    architecture: networks.Spec, recipe: Recipe, dataset: Dataset, seeds: int
) -> dict:
    """Everything that determines the pretrained networks, as JSON can hold it."""
    description = {
        "version": VERSION,
        "architecture": dataclasses.asdict(architecture),
        "recipe": dataclasses.asdict(recipe),
        "seeds": seeds,
        "source": dataset.name,
        "data": _digest([dataset.images, dataset.labels]),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "platform": jax.default_backend(),
    }
    # Through JSON and back, so that it compares equal to what is read from a file.
    return json.loads(json.dumps(description))


def load_or_pretrain(
    architecture: networks.Spec,
    recipe: Recipe,
    dataset: Dataset,
    seeds: int,
    cache: Path,
    warn: Callable[[str], None],
    advanced: Callable[[float], None] = lambda _: None,
    begin: networks.Params | None = None,
) -> Pretrained:
    """Networks pretrained on ``dataset``, from the cache or made now.

    Args:
      architecture: of the networks.
      recipe: how to pretrain; all images of ``dataset`` are used.
      dataset: the source.
      seeds: how many networks; they differ in initial weights and order of the images.
      cache: folder of the cache; made where it is missing.
      warn: is told when an entry of the cache is damaged and why.
      advanced: called with the share of the work that was just done.
      begin: parameters that all begin with, but for the head; ``None`` for random ones.
    """
    description = describe(architecture, recipe, dataset, seeds)
    if begin is not None:
        arrays = [np.asarray(x) for x in jax.tree.leaves(begin)]
        description["begin"] = _digest(arrays)
    folder = cache.resolve() / f"pretrained-{digests.of_json(description)[:16]}"
    if folder.exists():
        try:
            found = _read(folder, architecture, description)
        except Exception as error:  # Orbax raises whatever its parsers meet
            warn(f"remaking damaged cache entry {folder.name}: {_one_line(error)}")
            shutil.rmtree(folder)
        else:
            advanced(1.0)
            return found
    made = _pretrain(architecture, recipe, dataset, seeds, advanced, begin)
    _write(folder, made, description)
    return made


def pretrained_on(
    dataset: Dataset,
    epochs: int,
    seeds: int,
    cache: Path,
    warn: Callable[[str], None],
    advanced: Callable[[float], None] = lambda _: None,
) -> Pretrained:
    """The studies' own networks: the default architecture, Adam, batches of 100."""
    architecture = dataclasses.replace(networks.Architecture(), classes=dataset.classes)
    recipe = Recipe(
        steps=epochs * (len(dataset.labels) // 100),
        batch_size=100,
        learning_rate=3e-3,
        optimizer="adam",
    )
    return load_or_pretrain(architecture, recipe, dataset, seeds, cache, warn, advanced)


def _pretrain(architecture, recipe, dataset, seeds, advanced, begin) -> Pretrained:
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    init_keys, order_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    start = jax.vmap(architecture.init)(init_keys)
    if begin is not None:
        body = jax.tree.map(lambda x: jnp.broadcast_to(x, (seeds, *x.shape)), begin)
        start = {**body, "head": start["head"]}
    everything = np.arange(len(dataset.labels), dtype=np.int32)
    members = np.broadcast_to(everything, (seeds, everything.size))
    reference = Reference(networks.anchor(start))
    params, _, _ = fit(
        architecture, METHODS["plain"], recipe, start, reference, 0.0, dataset, members,
        order_keys, advanced,
    )  # fmt: skip
    right = accuracy(architecture, params, dataset, members, recipe.crop)
    return Pretrained(params, right, cached=False)


def _write(folder: Path, made: Pretrained, description: dict) -> None:
    folder.mkdir(parents=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "params", made.params)
    # Written last: an entry without it was cut short.
    entry = {
        "description": description,
        "accuracy": [float(share) for share in made.accuracy],
        "files": digests.of_folder(folder / "params"),
    }
    (folder / "entry.json").write_text(json.dumps(entry, indent=2))


def _read(folder: Path, architecture, description: dict) -> Pretrained:
    entry = json.loads((folder / "entry.json").read_text())
    if entry["description"] != description:
        raise ValueError("it describes other networks")
    # Before Orbax reads them: given damaged files, its background threads raise too.
    if digests.of_folder(folder / "params") != entry["files"]:
        raise ValueError("its files do not fit their digests")
    keys = jax.ShapeDtypeStruct((description["seeds"],), jax.random.key(0).dtype)
    like = jax.eval_shape(jax.vmap(architecture.init), keys)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(folder / "params", like)
    # Orbax commits arrays to a device, and beside those freshly made, which are not,
    # every program would be compiled twice.
    params = jax.tree.map(jnp.asarray, jax.device_get(restored))
    return Pretrained(params, np.asarray(entry["accuracy"], np.float32), cached=True)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
