"""The methods that are compared, as one table.

Every method is the same chain; they differ only in what the regularizer is and in what
is done about conflict. L2 and L2-SP take plain gradients of the empirical loss,
distillation (KD, DELTA) pairs. Most of the table is a product: every regularizer of
``REGULARIZERS``, as the plain weighted sum and in every form of ``FORMS``.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import dtnh, l2, l2_sp, l2_sp_penalty, mix_regularizers
from experiments.errors import unknown
from experiments.recipe import OPTIMIZERS, Recipe

# L2-SP's authors give the new head a plain L2 penalty of this strength, whatever the
# strength on the body (Li et al., ICML 2018, arXiv 1802.01483). Here the weight λ
# multiplies both, so that λ = 1 is their setting.
HEAD_DECAY = 0.01
# The distance of feature maps sums over hundreds of units: λ is multiplied by this, so
# that one range of λ serves all penalties. At λ = 1 without it, training diverges.
FEATURE_SCALE = 0.1


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to fine-tune; hashable, so that it can be a static argument of a jit.

    Attributes:
      label: what tables and figures call it.
      towards: what the regularizer holds the body near, if there is one: the zero or
        the pretrained parameters, which both decay the head, which is new, towards zero
        by ``HEAD_DECAY``; or the pretrained network's features on the same images, all
        channels alike (KD) or each by its importance (DELTA: ``"channels"``).
      mixed: further regularizers of the parameters alone, ``"pretrained"`` (L2-SP) and
        ``"zero"`` (weight decay, of all parameters alike). If there are any, each
        regularizer gradient is scaled to unit norm before they are summed.
      on_conflict: as in ``dtnh``; ``"ignore"`` is the plain weighted sum.
      granularity: as in ``dtnh``: the groups in which conflict is judged and measured.
      baseline: key of the method that this one is to improve on.
      reference_decay: as in ``dtnh``.
      max_ratio: as in ``dtnh``.
      inner: whether the optimizer sees the empirical gradient alone, as ``dtnh``'s
        ``inner``, instead of the combined one.
      until: share of the training over which λ falls linearly to zero, where it stays;
        ``None`` for a constant λ.
      frozen: whether the head alone trains, on the pretrained body.
    """

    label: str
    towards: Literal["zero", "pretrained", "features", "channels"] | None = None
    mixed: tuple[Literal["zero", "pretrained"], ...] = ()
    on_conflict: Literal["project", "drop", "ignore"] = "ignore"
    granularity: Literal["global", "layer", "leaf"] = "layer"
    baseline: str | None = None
    reference_decay: float | None = None
    max_ratio: float | None = None
    inner: bool = False
    until: float | None = None
    frozen: bool = False

    @property
    def distills(self) -> bool:
        """Whether the regularizer compares features, and so needs a backward pass."""
        return self.towards in ("features", "channels")

    def transformation(
        self,
        pretrained: Any,
        weight: jax.Array,
        learning_rate: jax.Array,
        recipe: Recipe,
    ) -> optax.GradientTransformation:
        """The chain that takes plain empirical gradients, or pairs where it distills.

        Args:
          pretrained: a tree shaped like the parameters, ``None`` for the new head's.
          weight: λ, a float32 scalar; traced, so that one compilation serves every λ.
          learning_rate: a float32 scalar, traced for the same reason.
          recipe: names the optimizer, and says how long training is and when the
            learning rate falls.
        """
        direction = OPTIMIZERS[recipe.optimizer]()
        rate = optax.scale_by_learning_rate(recipe.schedule(learning_rate))
        if self.frozen:
            return optax.chain(_head_alone(), direction, rate)
        if self.towards is None:
            return optax.chain(direction, rate)
        if self.distills and not self.mixed:
            weight = FEATURE_SCALE * weight
        return optax.chain(
            self._pair_maker(pretrained),
            dtnh(
                self._schedule(weight, recipe.steps),
                granularity=self.granularity,
                on_conflict=self.on_conflict,
                reference_decay=self.reference_decay,
                max_ratio=self.max_ratio,
                inner=direction if self.inner else None,
            ),
            optax.identity() if self.inner else direction,
            rate,
        )

    def penalty(self, params: Any, pretrained: Any) -> jax.Array | None:
        """What λ multiplies, of a regularizer that looks at the parameters alone.

        A mix is no gradient of a penalty: then it is the penalty of ``towards`` alone.

        Args:
          params: the parameters.
          pretrained: as ``transformation`` takes it.
        """
        if self.towards is None:
            return None
        return l2_sp_penalty(
            params, self._anchor(pretrained), alpha=1.0, beta=HEAD_DECAY
        )

    def _pair_maker(self, pretrained: Any) -> optax.GradientTransformation:
        """From plain gradients to pairs; what distills is given pairs."""
        # The anchor is copied into the state by `init`.
        anchored = l2_sp(1.0, HEAD_DECAY, pretrained=self._anchor(pretrained))
        if self.mixed:
            makers: dict[Any, Any] = {"pretrained": anchored, "zero": l2()}
            own = () if self.distills else (self.towards,)
            return mix_regularizers(*(makers[name] for name in (*own, *self.mixed)))
        return optax.identity() if self.distills else anchored

    def _anchor(self, pretrained: Any) -> Any:
        zero = self.towards == "zero"
        return jax.tree.map(jnp.zeros_like, pretrained) if zero else pretrained

    def _schedule(self, weight: jax.Array, steps: int) -> Any:
        if self.until is None:
            return weight
        end = self.until * steps
        return lambda count: weight * jnp.maximum(0, 1 - count / end)


def _head_alone() -> optax.GradientTransformation:
    """Gradients of the head as they are, of all else zero."""

    def body(params: Any) -> dict[str, bool]:
        return {name: name != "head" for name in params}

    return optax.masked(optax.set_to_zero(), body)


# What DTNH's forms do about conflict. "best" fell least below plain fine-tuning in the
# study `never-hurt`; "drop" is by layer too.
FORMS: dict[str, dict[str, Any]] = {
    "global": {"on_conflict": "project", "granularity": "global"},
    "layer": {"on_conflict": "project"},
    "drop": {"on_conflict": "drop"},
    "best": {"on_conflict": "drop", "max_ratio": 3.0, "inner": True},
}
FORM_LABELS = {
    "global": "DTNH (global)",
    "layer": "DTNH (layer)",
    "drop": "drop",
    "best": "best",
}
REGULARIZERS = {
    "l2-sp": Method("L2-SP", "pretrained"),
    "kd": Method("KD", "features"),
    "delta": Method("DELTA", "channels"),
}


def family(regularizer: str) -> tuple[str, ...]:
    """The keys of a regularizer and of its forms: ``kd, kd-global, kd-layer, ...``.

    The forms of L2-SP, the first that there were, are called ``dtnh-global`` and so on.
    """
    stem = "dtnh" if regularizer == "l2-sp" else regularizer
    return regularizer, *(f"{stem}-{form}" for form in FORMS)


def _family(regularizer: str) -> dict[str, Method]:
    plain_sum = REGULARIZERS[regularizer]
    forms = (
        dataclasses.replace(
            plain_sum,
            label=f"{plain_sum.label} + {FORM_LABELS[form]}",
            baseline=regularizer,
            **changes,
        )
        for form, changes in FORMS.items()
    )
    return dict(zip(family(regularizer), (plain_sum, *forms), strict=True))


METHODS: dict[str, Method] = {
    "plain": Method("plain fine-tuning"),
    "l2": Method("L2", "zero"),
    **_family("l2-sp"),
    **_family("kd"),
    **_family("delta"),
    "frozen": Method("frozen body", frozen=True),
}
# What `dtnh_sgd` and `dtnh_adamw` do by default, after `mix_regularizers`.
STEADY: dict[str, Any] = {
    "on_conflict": "project",
    "reference_decay": 0.99,
    "max_ratio": 1.0,
    "inner": True,
}
METHODS |= {
    "l2-layer": Method("L2 + DTNH (layer)", "zero", baseline="l2", **FORMS["layer"]),
    "steady": Method("L2-SP + L2, steady", "pretrained", mixed=("zero",), **STEADY),
    "steady-kd": Method(
        "KD + L2-SP + L2, steady", "features", mixed=("pretrained", "zero"), **STEADY
    ),
}


def _variant(label: str, **changes: Any) -> Method:
    """L2-SP + DTNH by layer, with something changed."""
    return dataclasses.replace(METHODS["dtnh-layer"], label=label, **changes)


# Compared in the study `never-hurt`, beside L2-SP and DTNH.
METHODS |= {
    "dtnh-leaf": _variant("DTNH (leaf)", granularity="leaf"),
    "drop": _variant("drop", on_conflict="drop"),
    "average": _variant("DTNH, average", reference_decay=0.9),
    "cap-0.1": _variant("DTNH, κ = 0.1", max_ratio=0.1),
    "cap-0.3": _variant("DTNH, κ = 0.3", max_ratio=0.3),
    "cap-1": _variant("DTNH, κ = 1", max_ratio=1.0),
    "falling": _variant("DTNH, λ falling", until=0.5),
    "drop-cap-0.3": _variant("drop, κ = 0.3", on_conflict="drop", max_ratio=0.3),
    "guarded": _variant(
        "drop, κ = 0.3, λ falling", on_conflict="drop", max_ratio=0.3, until=0.5
    ),
    "inner-sum": _variant("inner, plain sum", on_conflict="ignore", inner=True),
    "inner": _variant("inner, DTNH", inner=True),
    "inner-drop": _variant("inner, drop", on_conflict="drop", inner=True),
    "inner-drop-cap-3": _variant(
        "inner, drop, κ = 3", on_conflict="drop", inner=True, max_ratio=3.0
    ),
    "inner-guarded": _variant(
        "inner, drop, κ = 3, λ falling",
        on_conflict="drop",
        inner=True,
        max_ratio=3.0,
        until=0.5,
    ),
}


def method(name: str) -> Method:
    """The method of that name; an ``InputError`` that lists the known otherwise."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
