"""A fine-tuned network in a folder, with all that is needed to use it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.errors import InputError
from experiments.networks import Params, Upper, logits

FOLDER, ABOUT, PARAMS = "network", "about.json", "params"


@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """A whole network, its lower part included.

    Attributes:
      spec: which network.
      params: its parameters.
      about: what ``about.json`` says: classes, preprocessing, provenance.
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
        """Of uint8 images ``[n, side, side, 3]``, float32 ``[n, classes]``."""
        network = self.spec.build(self.params)
        return np.asarray(jax.nn.softmax(logits(network, images)))


def save(out: Path, spec: Upper, params: Params, about: dict[str, Any]) -> None:
    """Writes the network that ``spec``, of an upper part, and ``params`` describe.

    Args:
      out: folder of the run.
      spec: with the stage after which the upper part starts.
      params: of the upper part.
      about: classes, preprocessing and provenance, as JSON can hold them.
    """
    whole = dataclasses.replace(spec, start=None).pretrained()
    body = {**whole["body"], **params["body"]}
    folder = (out / FOLDER).resolve()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / PARAMS, {**params, "body": body}, force=True)
    about = {"network": spec.network, **about}
    # Written last: a folder without it was cut short.
    (folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False))


def load(run: Path) -> Saved:
    """The network of a run.

    Raises:
      InputError: if there is none, or it cannot be read.
    """
    folder = run / FOLDER
    try:
        about = json.loads((folder / ABOUT).read_text())
    except FileNotFoundError:
        raise InputError(
            f"{run} has no {FOLDER}/{ABOUT}: give the folder of a run of `finetune` "
            "that has ended"
        ) from None
    spec = Upper(about["network"], None, len(about["classes"]))
    like = jax.eval_shape(spec.init, jax.random.key(0))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore((folder / PARAMS).resolve(), like)
    except Exception as error:  # Orbax raises whatever its parsers meet
        raise InputError(f"{folder / PARAMS} cannot be read: {error}") from error
    return Saved(spec, params, about)
