"""A fine-tuned network in a folder, with everything needed to use it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.data import Dataset
from experiments.errors import InputError
from experiments.networks import NETWORKS, Params, Upper
from experiments.training import evaluate

FOLDER, ABOUT, PARAMS = "network", "about.json", "params"


@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """A whole network, including its lower part.

    Attributes:
      spec: the network.
      params: its parameters.
      about: content of ``about.json``: classes, preprocessing, results, provenance.
    """

    spec: Upper
    params: Params
    about: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return self.about["classes"]

    @property
    def side(self) -> int:
        """Height and width in pixels of the images that the network takes."""
        return self.about["preprocessing"]["crop"]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities ``[n, classes]`` for uint8 images ``[n, side, side, 3]``."""
        labels = np.zeros(len(images), np.int32)  # unknown, and not used
        dataset = Dataset(images, labels, "images", len(self.classes))
        params = jax.tree.map(lambda x: x[None], self.params)
        rows = np.arange(len(images))[None]
        return evaluate.probabilities(self.spec, params, dataset, rows)[0]


def save(out: Path, spec: Upper, params: Params, about: dict[str, Any]) -> None:
    """Writes a whole network, given its upper part.

    Args:
      out: folder of the run.
      spec: the upper part, with the stage after which it starts.
      params: parameters of the upper part.
      about: classes, preprocessing, results and provenance, as a JSON object.
    """
    whole = dataclasses.replace(spec, start=None).pretrained()
    whole = {**params, "body": {**whole["body"], **params.get("body", {})}}
    folder = (out / FOLDER).resolve()
    # Otherwise Orbax waits for the other processes of this run, which do not save.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
        checkpointer.save(folder / PARAMS, jax.tree.map(np.asarray, whole), force=True)
    about = {"network": spec.network, **about}
    # Written last, so that a folder without it is known to be incomplete.
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / ABOUT).write_text(text, encoding="utf-8")


def load(run: Path) -> Saved:
    """The network of a run.

    Raises:
      InputError: if there is none, or it cannot be read.
    """
    folder = (run / FOLDER).resolve()
    if not (folder / ABOUT).exists():
        raise InputError(
            f"{run} has no {FOLDER}/{ABOUT}: expected the folder of a finished run of "
            "`finetune`"
        )
    about = described(folder / ABOUT)
    spec = Upper(about["network"], None, len(about["classes"]))
    like = jax.eval_shape(spec.init, jax.random.key(0))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(folder / PARAMS, like)
    except Exception as error:  # Orbax raises all kinds of errors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder / PARAMS} cannot be read: {first}") from error
    return Saved(spec, params, about)


def described(path: Path) -> dict[str, Any]:
    """Reads an ``about.json``.

    Raises:
      InputError: if it is damaged or incomplete.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        sides = [about["preprocessing"][name] for name in ("resize", "crop")]
        texts = [about["network"], *about["classes"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error!r}") from None
    if not all(isinstance(x, int) and 0 < x < 10_000 for x in sides):
        raise InputError(f"{path} is damaged: image sizes are {sides}")
    if not all(isinstance(x, str) for x in texts) or texts[0] not in NETWORKS:
        raise InputError(f"{path} is damaged: network and classes are {texts}")
    return about
