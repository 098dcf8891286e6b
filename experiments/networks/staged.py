"""What the networks share: a body in named stages, of which a part can be run alone."""

from collections.abc import Callable
from typing import ClassVar

import jax
from flax import nnx

from experiments.errors import unknown


class StagedNetwork(nnx.Module):
    """A stem, stages that are run one after the other, and a linear head.

    A subclass has ``stem`` and one attribute or method for each name in ``stages``,
    each from ``[n, h, w, c]`` to the next; the last, ``"pooled"``, gives ``[n, c]``.

    To fine-tune the upper part only, compute the frozen lower part once (in evaluation
    mode, as its BatchNorm statistics are frozen as well) and train from there::

        cached = network.trunk(images, "stage3")
        logits = network(cached, start="stage3")
    """

    stages: ClassVar[tuple[str, ...]]
    stem_layers: ClassVar[tuple[str, ...]]  # what only the stem uses
    normalize: Callable[[jax.Array], jax.Array]
    stem: Callable[[jax.Array], jax.Array]
    head: nnx.Linear

    def features(self, x: jax.Array, start: str | None = None) -> dict[str, jax.Array]:
        """The output of each stage, by name and in order; the last is ``"pooled"``.

        (In order as long as it is not returned from a jitted function: JAX sorts the
        keys of a dict. The order is in ``stages``.)

        Args:
          x: float32 images ``[n, height, width, 3]`` as ``normalize`` makes them, or,
            with ``start``, the output of that stage.
          start: the stage that ``x`` is the output of; only later ones are run.

        Returns:
          Feature maps ``[n, h, w, c]``, and ``"pooled"`` as ``[n, c]``.

        Raises:
          InputError: if there is no stage ``start``.
        """
        if start is None:
            x, remaining = self.stem(x), self.stages
        else:
            remaining = self.stages[self._position(start) + 1 :]
        return self._run(x, remaining)

    def trunk(self, images: jax.Array, stop: str) -> jax.Array:
        """The output of the stage ``stop`` for images ``[n, height, width, 3]``.

        Raises:
          InputError: if there is no stage ``stop``.
        """
        names = self.stages[: self._position(stop) + 1]
        return self._run(self.stem(images), names)[stop]

    def drop_trunk(self, stop: str) -> None:
        """Deletes the layers of ``trunk(images, stop)``; what is left starts there."""
        below = self.stages[: self._position(stop) + 1]
        for name in (*self.stem_layers, *below):
            delattr(self, name)

    def __call__(self, x: jax.Array, start: str | None = None) -> jax.Array:
        """Logits ``[n, classes]``; the arguments are those of ``features``."""
        # Behind the last stage there is nothing left to run, and `x` is pooled already.
        return self.head(self.features(x, start).get("pooled", x))

    def _run(self, x: jax.Array, names: tuple[str, ...]) -> dict[str, jax.Array]:
        outputs = {}
        for name in names:
            x = outputs[name] = getattr(self, name)(x)
        return outputs

    def _position(self, name: str) -> int:
        if name not in self.stages:
            raise unknown("stage", name, self.stages)
        return self.stages.index(name)
