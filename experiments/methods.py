"""The methods that are compared, as one table, and the optimizers they run through.

Every method is the same chain fed with plain gradients of the empirical loss; they
differ only in where the regularizer pulls to and in what is done about conflict.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import dtnh, l2_sp
from experiments.errors import unknown

# L2-SP's authors give the new head a plain L2 penalty of this strength, whatever the
# strength on the body (Li et al., ICML 2018, arXiv 1802.01483). Here the weight λ
# multiplies both, so that λ = 1 is their setting.
HEAD_DECAY = 0.01


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to fine-tune; hashable, so that it can be a static argument of a jit.

    Attributes:
      label: what tables and figures call it.
      towards: the point that the regularizer pulls the body to, if there is one. Both
        decay the head, which is new, towards zero by ``HEAD_DECAY``.
      on_conflict: as in ``dtnh``; ``"ignore"`` is the plain weighted sum.
      granularity: as in ``dtnh``: the groups in which conflict is judged and measured.
      baseline: key of the method that this one is to improve on.
    """

    label: str
    towards: Literal["zero", "pretrained"] | None = None
    on_conflict: Literal["project", "drop", "ignore"] = "ignore"
    granularity: Literal["global", "layer", "leaf"] = "layer"
    baseline: str | None = None

    def transformation(
        self,
        pretrained: Any,
        weight: jax.Array,
        optimizer: optax.GradientTransformation,
    ) -> optax.GradientTransformation:
        """The chain that takes plain empirical gradients.

        Args:
          pretrained: a tree shaped like the parameters, ``None`` for the new head's.
          weight: λ, a float32 scalar; traced, so that one compilation serves every λ.
          optimizer: what turns the combined gradient into updates.
        """
        if self.towards is None:
            return optax.chain(optimizer)
        if self.towards == "zero":
            pretrained = jax.tree.map(jnp.zeros_like, pretrained)
        return optax.chain(
            l2_sp(pretrained, alpha=1.0, beta=HEAD_DECAY),
            dtnh(weight, granularity=self.granularity, on_conflict=self.on_conflict),
            optimizer,
        )


METHODS: dict[str, Method] = {
    "plain": Method("plain fine-tuning"),
    "l2": Method("L2", "zero"),
    "l2-sp": Method("L2-SP", "pretrained"),
    "dtnh-global": Method(
        "L2-SP + DTNH (global)", "pretrained", "project", "global", baseline="l2-sp"
    ),
    "dtnh-layer": Method(
        "L2-SP + DTNH (layer)", "pretrained", "project", "layer", baseline="l2-sp"
    ),
}

OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "adam": optax.adam,
}


def method(name: str) -> Method:
    """The method of that name; an ``InputError`` that lists the known otherwise."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
