"""The base class of pretrained networks: named stages, which can run in part."""

from collections.abc import Callable
from typing import ClassVar

import jax
from flax import nnx

from experiments.errors import unknown
from experiments.networks.interface import Gates, gated


class StagedNetwork(nnx.Module):
    """A stem, stages that run one after the other, and a linear head.

    A subclass has ``stem`` and one attribute or method for each name in ``stages``.
    Each maps ``[n, h, w, c]`` to the input of the next; the last, ``"pooled"``, returns
    ``[n, c]``.

    To fine-tune only the upper part, compute the frozen lower part once (in evaluation
    mode, because its BatchNorm statistics are frozen as well) and train from there::

        cached = network.trunk(images, "stage3")
        logits = network(cached, start="stage3")
    """

    stages: ClassVar[tuple[str, ...]]
    stem_layers: ClassVar[tuple[str, ...]]  # used only by the stem
    torch_name: ClassVar[Callable[[str], str]]  # "stage1.0.conv.weight" -> PyTorch's
    normalize: Callable[[jax.Array], jax.Array]  # from uint8 to float32 images
    stem: Callable[[jax.Array], jax.Array]
    head: nnx.Linear

    def features(
        self, x: jax.Array, start: str | None = None, gates: Gates | None = None
    ) -> dict[str, jax.Array]:
        """The output of each stage by name, in order (which ``jit`` does not keep).

        Args:
          x: float32 images ``[n, height, width, 3]`` as returned by ``normalize``, or,
            with ``start``, the output of that stage.
          start: the stage that computed ``x``; only later stages run.
          gates: factors for the channels of each output.
        """
        x = self.stem(x) if start is None else x
        outputs = {}
        for name in self.stages[len(self._until(start)) :]:
            x = outputs[name] = gated(name, getattr(self, name)(x), gates)
        return outputs

    def trunk(self, images: jax.Array, stop: str) -> jax.Array:
        """The output of the stage ``stop``, for images returned by ``normalize``."""
        names, x = self._until(stop), self.stem(images)
        for name in names:
            x = getattr(self, name)(x)
        return x

    def drop_trunk(self, stop: str) -> None:
        """Deletes the layers that compute ``trunk(images, stop)``."""
        for name in (*self.stem_layers, *self._until(stop)):
            delattr(self, name)

    def __call__(self, x: jax.Array, start: str | None = None) -> jax.Array:
        """Logits ``[n, classes]``; the arguments are those of ``features``."""
        # With the last stage as `start`, nothing is left to run and `x` is pooled.
        return self.head(self.features(x, start).get("pooled", x))

    def _until(self, stage: str | None) -> tuple[str, ...]:
        if stage not in (None, *self.stages):
            raise unknown("stage", stage, self.stages)
        return self.stages[: self.stages.index(stage) + 1] if stage else ()
