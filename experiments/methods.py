"""The methods that are compared. A method applies a rule to one or more regularizers.

Its name is REGULARIZERS/RULE, such as ``"l2-sp/sum"`` or ``"kd+l2-sp+l2/steady"``.
There are also ``"plain"``, fine-tuning without a regularizer, and ``"frozen"``, which
trains only the head.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import GradientPair, dtnh, l2, l2_sp, mix_regularizers
from experiments.bloop import bloop
from experiments.errors import InputError, unknown
from experiments.recipe import Recipe

PLAIN, FROZEN = "plain", "frozen"

# The authors of L2-SP put a plain L2 penalty of this strength on the new head, whatever
# the strength on the body (Li et al., ICML 2018, arXiv 1802.01483). Here the weight λ
# multiplies both, so λ = 1 is their setting.
HEAD_DECAY = 0.01
# The distance between feature maps sums over hundreds of units. λ is multiplied by this
# factor, so that one range of λ suits all regularizers, except in a mix, which scales
# them itself. Without it, training diverges at λ = 1.
FEATURE_SCALE = 0.1

# Name to label in tables. "kd" (knowledge distillation) and "delta" compare feature
# maps with those of the pretrained network, with all channels weighted equally or each
# by its importance. They need a second backward pass. Two are controls: "shuffled" is
# L2-SP with the entries of each pretrained array in random order, and "random" is a new
# random direction in each step.
REGULARIZERS = {
    "l2-sp": "L2-SP",
    "l2": "weight decay",
    "kd": "KD",
    "delta": "DELTA",
    "shuffled": "L2-SP to shuffled weights",
    "random": "random direction",
}
DISTILLATIONS = "kd", "delta"


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the regularizer gradient is combined with the empirical gradient.

    Attributes:
      label: label in tables and figures.
      on_conflict, granularity, reference_decay, max_ratio: as in ``dtnh``. With
        ``"ignore"``, conflict is only measured, at this granularity. ``"bloop"`` is
        the rule of Bloop, which uses only the decay.
      inner: whether the optimizer sees only the empirical gradient, as ``inner`` of
        ``dtnh``, instead of the combined one.
      reference: as in ``dtnh``; ``None`` means the update if Adam is ``inner``, and the
        gradient otherwise.
    """

    label: str
    on_conflict: Literal["project", "drop", "ignore", "bloop"] = "project"
    granularity: Literal["global", "layer", "leaf"] = "layer"
    reference_decay: float | None = None
    max_ratio: float | None = None
    inner: bool = False
    reference: Literal["gradient", "update"] | None = None


# The defaults of `dtnh_sgd` and `dtnh_adamw`.
_STEADY = Rule("steady", reference_decay=0.99, max_ratio=0.3, inner=True)


def _steady(label: str, **other: Any) -> Rule:
    """The steady rule with some fields replaced."""
    return dataclasses.replace(_STEADY, label=f"steady, {label}", **other)


RULES = {
    "sum": Rule("plain sum", "ignore"),
    "global": Rule("DTNH (global)", granularity="global"),
    "layer": Rule("DTNH (layer)"),
    "drop": Rule("drop", "drop"),
    "bloop": Rule("Bloop", "bloop", granularity="global", reference_decay=0.99),
    "steady": _STEADY,
    "steady-ratio-0.1": _steady("κ = 0.1", max_ratio=0.1),
    "steady-ratio-0.5": _steady("κ = 0.5", max_ratio=0.5),
    "steady-ratio-1": _steady("κ = 1", max_ratio=1.0),
    "steady-decay-0.9": _steady("decay 0.9", reference_decay=0.9),
    "steady-decay-0.97": _steady("decay 0.97", reference_decay=0.97),
    "steady-decay-0.999": _steady("decay 0.999", reference_decay=0.999),
    "steady-gradient": _steady("average gradient", reference="gradient"),
    "steady-update": _steady("average update", reference="update"),
    "steady-no-average": _steady("this step's gradient", reference_decay=None),
    "steady-no-cap": _steady("no cap", max_ratio=None),
    "steady-no-inner": _steady("optimizer after", inner=False),
    "steady-no-layers": _steady("global", granularity="global"),
    "steady-no-projection": _steady("no projection", on_conflict="ignore"),
    "steady-drop": _steady("drop", on_conflict="drop"),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to fine-tune. Hashable, so that it can be a static argument of a jit.

    Attributes:
      regularizers: names in ``REGULARIZERS``. The gradients of several are each scaled
        to a root mean square of 1 and summed (``mix_regularizers``).
      rule: a value of ``RULES``; ``None`` without a regularizer.
      frozen: whether only the head is trained, on the pretrained body.
    """

    regularizers: tuple[str, ...] = ()
    rule: Rule | None = None
    frozen: bool = False

    @property
    def regularizer(self) -> str:
        """The label of the regularizers, or an empty string."""
        return " + ".join(REGULARIZERS[name] for name in self.regularizers)

    @property
    def label(self) -> str:
        if self.rule is None:
            return "frozen body" if self.frozen else "plain fine-tuning"
        return f"{self.regularizer}, {self.rule.label}"

    @property
    def distills(self) -> bool:
        """Whether the method compares feature maps and needs a second backward pass."""
        return any(name in DISTILLATIONS for name in self.regularizers)

    def transformation(
        self, weight: jax.Array, learning_rate: jax.Array, recipe: Recipe
    ) -> optax.GradientTransformation:
        """The chain that takes plain empirical gradients, or pairs if it distills.

        The anchor of L2-SP is the parameters given to ``init``.

        Args:
          weight: λ, a float32 scalar; traced, so that one compilation serves every λ.
          learning_rate: a float32 scalar, traced for the same reason.
          recipe: has the optimizer and the learning rate schedule.
        """
        direction = recipe.direction()
        rate = optax.scale_by_learning_rate(recipe.schedule(learning_rate))
        if self.frozen:
            return optax.chain(direction, rate, _head_alone())
        if self.rule is None:
            return optax.chain(direction, rate)
        options = dataclasses.asdict(self.rule)
        del options["label"]
        inner = direction if options.pop("inner") else None
        adaptive = inner is not None and recipe.optimizer != "sgd"
        options["reference"] = self.rule.reference or (
            "update" if adaptive else "gradient"
        )
        if self.regularizers in (("kd",), ("delta",)):
            weight = FEATURE_SCALE * weight
        if self.rule.on_conflict == "bloop":
            assert self.rule.reference_decay is not None
            combine = bloop(weight, self.rule.reference_decay)
        else:
            combine = dtnh(weight, inner=inner, **options)
        after = optax.identity() if inner else direction
        return optax.chain(self._pair_maker(), combine, after, rate)

    def _pair_maker(self) -> optax.GradientTransformation:
        """Makes pairs from plain gradients, or from pairs if the method distills."""
        known = {
            "l2-sp": _l2_sp,
            "shuffled": _shuffled_l2_sp,
            "l2": l2,
            "random": _random_direction,
        }
        makers = [known[name]() for name in self.regularizers if name in known]
        if len(self.regularizers) > 1:
            return mix_regularizers(*makers)
        return makers[0] if makers else optax.identity()


def method(name: str) -> Method:
    """The method of that name. Raises an ``InputError`` that lists the known ones."""
    if name in (PLAIN, FROZEN):
        return Method(frozen=name == FROZEN)
    regularizers, slash, rule = name.partition("/")
    if not slash:
        raise InputError(
            f"unknown method {name!r}: expected {PLAIN}, {FROZEN} or REGULARIZER/RULE, "
            "as in l2-sp+l2/steady"
        )
    names = tuple(regularizers.split("+"))
    for each in names:
        if each not in REGULARIZERS:
            raise unknown("regularizer", each, REGULARIZERS)
    if len(set(names)) < len(names) or set(DISTILLATIONS) <= set(names):
        raise InputError(
            f"{name!r} has the same regularizer twice, or both distillations"
        )
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    return Method(names, RULES[rule])


def _is_head(params: Any) -> dict[str, bool]:
    return {name: name == "head" for name in params}


def _l2_sp() -> optax.GradientTransformation:
    return l2_sp(beta=HEAD_DECAY, new=_is_head)


def _shuffled_l2_sp() -> optax.GradientTransformation:
    def init(params: Any) -> Any:
        flat, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(0), len(flat))
        shuffled = (
            jax.random.permutation(key, x.ravel()).reshape(x.shape)
            for key, x in zip(keys, flat, strict=True)
        )
        return _l2_sp().init(structure.unflatten(shuffled))

    return optax.GradientTransformation(init, _l2_sp().update)


def _random_direction() -> optax.GradientTransformation:
    """A regularizer gradient of independent normal entries, redrawn in each step."""

    def init(params: Any) -> jax.Array:
        # Networks that are trained together get different directions.
        number = jax.lax.bitcast_convert_type(optax.tree.sum(params), jnp.int32)
        return jax.random.key_data(jax.random.fold_in(jax.random.key(0), number))

    def update(updates, state, params=None):
        del params
        key, used = jax.random.split(jax.random.wrap_key_data(state))
        drawn = optax.tree.random_like(used, updates)
        return GradientPair(updates, drawn), jax.random.key_data(key)

    return optax.GradientTransformation(init, update)


def _head_alone() -> optax.GradientTransformation:
    """Keeps the updates of the head and sets all others to zero."""

    def body(params: Any) -> dict[str, bool]:
        return {name: name != "head" for name in params}

    return optax.masked(optax.set_to_zero(), body)
