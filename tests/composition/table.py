"""What composes with what: every row, in each form of passing r.

``python tests/composition/table.py`` writes the table to ``table.md``, from where
``docs/fill.py`` puts it into the documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optax
import references as ref
import running
from optax import chain, contrib

import dtnh_jax

# A mix behaves like `l2_sp`: they share a column, and both are tested.
COLUMNS = {"pair": "pair", "keyword": "keyword", "l2_sp": "`l2_sp`, mix"}
FORMS = (*COLUMNS, "mix")
FRAGMENT = Path(__file__).with_name("table.md")


@dataclass(frozen=True)
class Right:
    """The parameters are those of the row's reference, or of this form's own."""

    reference: Callable | None = None
    cell = "yes"


@dataclass(frozen=True)
class Differs:
    """It runs and does something else, which dtnh cannot detect."""

    reference: Callable
    why: str
    cell = "**differs**"


@dataclass(frozen=True)
class Raises:
    """It fails, with an error that holds these words."""

    error: type[Exception]
    words: str
    cell = "error"


@dataclass(frozen=True)
class Absent:
    """The case cannot happen."""

    cell = "–"


RIGHT = Right()
NO_PAIR = Raises(ValueError, "GradientPair|named tuple")  # so older JAX
NO_PAIR_IN_CARRY = Raises(TypeError, "GradientPair")  # of scan, or of cond's branches
NO_KEYWORD = Raises(TypeError, "unexpected keyword argument 'regularizer_grads'")
ONE_GRADIENT = Raises(TypeError, "dtnh needs two gradients")
NOT_MASKED = Raises(ValueError, r"\['head'\], empirical gradient MaskedNode")
PLAIN = Raises(TypeError, "multi_steps averages two gradients but got one")
OTHER_STRUCTURE = Raises(ValueError, "`pretrained` has|must have the same structure")


@dataclass(frozen=True)
class Row:
    """One composition.

    ``build(head, opt)`` makes it from dtnh (after l2_sp or a mix, in these forms) and
    SGD. ``mix`` is the outcome of a mix where it has a reference of its own, and
    ``at_init`` says that ``l2_sp`` takes its anchor there; a mix always does.
    ``options`` are dtnh's. ``broken`` names the gradient that has a NaN in one step.
    """

    name: str
    build: Callable
    reference: Callable
    pair: Any
    keyword: Any
    l2_sp: Any
    advice: str
    mix: Any = None
    at_init: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    gradients: Callable = running.analytic
    broken: str | None = None
    trainer: Callable = running.optax_loop
    params: Callable = lambda x: x
    complex_body: bool = False

    def outcome(self, form):
        if form == "mix":
            return self.l2_sp if self.mix is None else self.mix
        return getattr(self, form)


def around(wrapper):
    return lambda head, opt: wrapper(chain(head, opt))


def before(tx):
    return lambda head, opt: chain(tx, head, opt)


def after(tx):
    return lambda head, opt: chain(head, tx, opt)


def around_sgd(wrapper):
    """dtnh first, and the wrapper around SGD alone."""
    return lambda head, opt: chain(head, wrapper(opt))


BODY = {"body": True, "head": False}
HEAD = {"body": False, "head": True}
LABELS = {"body": "body", "head": "head"}


def body_masked(mask, **kwargs):
    return around(
        lambda tx: chain(optax.masked(tx, mask, **kwargs), optax.freeze(HEAD))
    )


def body_partitioned(**kwargs):
    return lambda head, opt: optax.partition(
        {"body": chain(head, opt), "head": opt}, LABELS, **kwargs
    )


def odd(step):
    return step % 2 == 1


def climb():
    return chain(contrib.normalize(), optax.sgd(0.05))


def forgetful(head, opt):
    """Momentum, which is shaped like the parameters, set to zero after each step."""
    tx = chain(head, optax.trace(0.9), opt)

    def update(updates, state, params=None, **extra_args):
        updates, state = tx.update(updates, state, params, **extra_args)
        zeros = optax.tree.map_params(tx, lambda x: 0 * x, state)
        return updates, (state[0], *zeros[1:])

    return optax.GradientTransformationExtraArgs(tx.init, update)


def injected(head, opt):
    del opt
    make = optax.inject_hyperparams(lambda rate: chain(head, optax.sgd(rate)))
    return make(rate=ref.RATE)


AROUND = (
    Row(
        "`chain`, `named_chain`",
        lambda head, opt: optax.named_chain(("dtnh", head), ("sgd", opt)),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Put `dtnh` first, or right after `l2_sp` or a mix.",
    ),
    Row(
        "`multi_steps` of this package",
        around(lambda tx: dtnh_jax.multi_steps(tx, 2)),
        ref.mean_of_both,
        *(RIGHT, RIGHT, PLAIN),
        "Averages both gradients, then projects once. For plain gradients: next row.",
    ),
    Row(
        "`MultiSteps`",
        around(lambda tx: optax.MultiSteps(tx, 2)),
        ref.mean_of_both,
        NO_PAIR,
        Differs(ref.mean_of_g_last_r, "the last micro-step's `r` is used for all"),
        RIGHT,
        "With pairs or the keyword, use `multi_steps` of this package.",
    ),
    Row(
        "`masked`",
        body_masked(BODY),
        ref.body_only,
        *(NO_PAIR, NOT_MASKED, RIGHT),
        "Mask after `dtnh`. With the keyword, the next row's flag works too.",
        mix=Right(ref.mixed_body_only),
    ),
    Row(
        "`masked`, callable mask, `mask_compatible_extra_args=True`",
        body_masked(lambda _: BODY, mask_compatible_extra_args=True),
        ref.body_only,
        *(NO_PAIR, RIGHT, RIGHT),
        "Judges and projects only the arrays in the mask.",
        mix=Right(ref.mixed_body_only),
    ),
    Row(
        "`partition`",
        body_partitioned(),
        ref.body_joint,
        *(NO_PAIR, NOT_MASKED, RIGHT),
        "Partition after `dtnh`. With the keyword, the next row's flag works too.",
        mix=Right(ref.mixed_body_joint),
    ),
    Row(
        "`partition`, `mask_compatible_extra_args=True`",
        body_partitioned(mask_compatible_extra_args=True),
        ref.body_joint,
        *(NO_PAIR, RIGHT, RIGHT),
        "Parts with their own `dtnh` are judged separately.",
        mix=Right(ref.mixed_body_joint),
    ),
    Row(
        "`apply_if_finite`, NaN in `g`",
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "Use `skip_nonfinite`, or put it after `dtnh`.",
        broken="empirical",
    ),
    Row(
        "`apply_if_finite`, NaN in `r`",
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        NO_PAIR_IN_CARRY,
        Differs(ref.plain, "only `g` is checked, and the NaN reaches the parameters"),
        Absent(),
        "Use `skip_nonfinite`, or put it after `dtnh`.",
        broken="regularizer",
    ),
    Row(
        "`skip_nonfinite` of this package, NaN in `g`",
        around(dtnh_jax.skip_nonfinite),
        ref.finite_only,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended: the averages inside stay finite.",
        broken="empirical",
    ),
    Row(
        "`skip_nonfinite` of this package, NaN in `r`",
        around(dtnh_jax.skip_nonfinite),
        ref.finite_only,
        *(RIGHT, RIGHT, Absent()),
        "Recommended: it checks both gradients.",
        broken="regularizer",
    ),
    Row(
        "`conditionally_transform`",
        lambda head, opt: chain(optax.conditionally_transform(head, odd), opt),
        ref.odd_steps,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "With pairs, use a `weight` schedule that is 0 in the other steps.",
    ),
    Row(
        "`conditionally_mask`",
        around(lambda tx: optax.conditionally_mask(tx, odd)),
        ref.odd_steps_only,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "With pairs, put it after `dtnh`.",
    ),
    Row(
        "`inject_hyperparams`",
        injected,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Treats callable arguments as schedules: list them in `static_args`.",
    ),
    Row(
        "`flatten`",
        around(optax.flatten),
        ref.plain,
        ONE_GRADIENT,
        Raises(ValueError, "empirical gradient float32"),
        RIGHT,
        "Without `pretrained`. With pairs or the keyword, put it after `dtnh`.",
        at_init=True,
    ),
    Row(
        "`contrib.schedule_free`",
        around(lambda tx: contrib.schedule_free(tx, ref.RATE)),
        ref.schedule_free,
        *(RIGHT, RIGHT, RIGHT),
        "Around or after `dtnh`, it gives the same updates.",
    ),
    Row(
        "`contrib.mechanize`",
        around(lambda tx: contrib.mechanize(tx, s_init=0.1)),
        ref.mechanic(lambda g, r: g),
        *(NO_PAIR, RIGHT, RIGHT),
        "Tunes the step size by `g` alone around `dtnh`, by the sum after it.",
    ),
    Row(
        "`lookahead`",
        around(lambda tx: optax.lookahead(tx, 2, 0.5)),
        ref.lookahead,
        *(RIGHT, NO_KEYWORD, RIGHT),
        "With the keyword, put it after `dtnh`.",
        params=optax.LookaheadParams.init_synced,
    ),
    Row(
        "`contrib.split_real_and_imaginary`",
        around(contrib.split_real_and_imaginary),
        ref.plain,
        *(RIGHT, NO_KEYWORD, RIGHT),
        "Without `pretrained`. Put it after `dtnh`, which handles complex numbers.",
        at_init=True,
        complex_body=True,
    ),
    Row(
        "`contrib.sam`",
        around(lambda tx: contrib.sam(tx, climb())),
        ref.sam_around,
        *(NO_PAIR, NO_KEYWORD, RIGHT),
        "Around `l2_sp`, it climbs along `g` alone. With pairs, put it after `dtnh`.",
    ),
    Row(
        "`tree.map_params`",
        forgetful,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Reaches all state shaped like the parameters: momentum, averages, anchors.",
    ),
)

INNER_ADAM = ref.inner(ref.Adam)
WRONG_SIGN = Differs(ref.downhill_before(ref.Adam), "`r` is added with the wrong sign")

BEFORE = (
    Row(
        "`adam`, or another whole optimizer",
        lambda head, opt: chain(optax.adam(ref.RATE), head),
        INNER_ADAM,
        *(NO_PAIR, WRONG_SIGN, WRONG_SIGN),
        "Use `dtnh(inner=optax.scale_by_adam())`, with the learning rate after it.",
    ),
    Row(
        "`scale_by_adam`",
        before(optax.scale_by_adam()),
        INNER_ADAM,
        NO_PAIR,
        *2 * [Differs(ref.before(ref.Adam), "conflict is judged with Adam's step")],
        "Use `dtnh(inner=optax.scale_by_adam())`.",
    ),
    Row(
        "`trace` (momentum)",
        before(optax.trace(0.9)),
        ref.inner(ref.Momentum),
        NO_PAIR,
        *2
        * [Differs(ref.before(ref.Momentum), "conflict is judged with the momentum")],
        "Use `dtnh(inner=optax.trace(0.9))`.",
    ),
    Row(
        "`mix_regularizers` of this package",
        before(dtnh_jax.mix_regularizers(dtnh_jax.l2(mask=True))),
        ref.mixed_with_decay,
        *(RIGHT, RIGHT, Raises(TypeError, "l2_sp makes the pair")),
        "The incoming `r` joins the mix. Put `l2_sp` inside the mix.",
        mix=Absent(),
    ),
    Row(
        "`add_decayed_weights`",
        before(optax.add_decayed_weights(0.1)),
        ref.decayed_before,
        *(NO_PAIR, RIGHT, RIGHT),
        "Becomes part of the empirical loss. See also `l2`.",
    ),
    Row(
        "`clip_by_global_norm`",
        before(optax.clip_by_global_norm(0.5)),
        ref.clipped_g,
        Differs(ref.clipped_pair, "both are scaled by their joint norm"),
        *(RIGHT, RIGHT),
        "Clip after `dtnh`, or clip `g` alone before you make the pair.",
    ),
    Row(
        "`scale` (of the loss, undone)",
        before(optax.scale(0.5)),
        ref.halved_g,
        *(Right(ref.halved_pair), RIGHT, RIGHT),
        "Undo it before `dtnh`. Scales both gradients of a pair, but not the keyword.",
    ),
    Row(
        "`zero_nans`",
        before(optax.zero_nans()),
        ref.nan_as_zero,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "Put it after `dtnh`: it misses NaN in the keyword. Pairs work outside `scan`.",
        broken="empirical",
    ),
    Row(
        "`freeze`",
        before(optax.freeze(HEAD)),
        ref.head_frozen,
        NO_PAIR,
        *2 * [Differs(ref.head_frozen_in_g, "frozen arrays are still regularized")],
        "Put it last.",
    ),
    Row(
        "`snapshot`",
        before(optax.snapshot("norm", optax.tree.norm)),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Measures its input; for a pair, both gradients together.",
    ),
)

AFTER = (
    Row(
        "`scale_by_adam`",
        after(optax.scale_by_adam()),
        ref.after(ref.Adam),
        *(RIGHT, RIGHT, RIGHT),
        "Adam rescales after the projection; `inner` keeps the guarantee.",
    ),
    Row(
        "`trace` (momentum)",
        after(optax.trace(0.9)),
        ref.after(ref.Momentum),
        *(RIGHT, RIGHT, RIGHT),
        "Momentum mixes steps after the projection; `inner` keeps the guarantee.",
    ),
    Row(
        "`add_decayed_weights`",
        after(optax.add_decayed_weights(0.1)),
        ref.decayed_after,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended.",
    ),
    Row(
        "`clip_by_global_norm`",
        after(optax.clip_by_global_norm(0.5)),
        ref.clipped_after,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended: the direction stays as projected.",
    ),
    Row(
        "`freeze`",
        after(optax.freeze(HEAD)),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended. Frozen arrays still count in a mix and in the global group.",
    ),
    Row(
        "`masked`",
        lambda head, opt: chain(head, optax.masked(opt, BODY), optax.freeze(HEAD)),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended.",
    ),
    Row(
        "`partition`",
        around_sgd(
            lambda opt: optax.partition(
                {"body": opt, "head": optax.set_to_zero()}, LABELS
            )
        ),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended.",
    ),
    Row(
        "`MultiSteps`",
        around_sgd(lambda opt: optax.MultiSteps(opt, 2)),
        ref.mean_of_projections,
        *(RIGHT, RIGHT, RIGHT),
        "Averages the projections of the micro-steps. See also `multi_steps`.",
    ),
    Row(
        "`apply_if_finite`, NaN in `g`",
        around_sgd(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        *(RIGHT, RIGHT, RIGHT),
        "Use `skip_nonfinite`: otherwise `reference_decay` and `inner` keep the NaN.",
        broken="empirical",
    ),
    Row(
        "`apply_if_finite`, NaN in `r`",
        around_sgd(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        *(RIGHT, RIGHT, Absent()),
        "Recommended.",
        broken="regularizer",
    ),
    Row(
        "`zero_nans`",
        after(optax.zero_nans()),
        ref.nan_as_zero_after,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended; a NaN sets its whole group to zero.",
        broken="empirical",
    ),
    Row(
        "`conditionally_transform`",
        after(optax.conditionally_transform(optax.add_decayed_weights(0.1), odd)),
        ref.decayed_at_odd_steps,
        *(RIGHT, RIGHT, RIGHT),
        "Works in every form.",
    ),
    Row(
        "`conditionally_mask`",
        around_sgd(lambda opt: optax.conditionally_mask(opt, odd)),
        ref.odd_steps_only,
        *(RIGHT, RIGHT, RIGHT),
        "Works in every form.",
    ),
    Row(
        "`inject_hyperparams`",
        lambda head, _: chain(head, optax.inject_hyperparams(optax.sgd)(ref.RATE)),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Works in every form.",
    ),
    Row(
        "`flatten`",
        around_sgd(optax.flatten),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended.",
    ),
    Row(
        "`contrib.schedule_free`",
        around_sgd(lambda opt: contrib.schedule_free(opt, ref.RATE)),
        ref.schedule_free,
        *(RIGHT, RIGHT, RIGHT),
        "Around or after `dtnh`, it gives the same updates.",
    ),
    Row(
        "`contrib.mechanize`",
        around_sgd(lambda opt: contrib.mechanize(opt, s_init=0.1)),
        ref.mechanic(ref.joint),
        *(RIGHT, RIGHT, RIGHT),
        "Tunes the step size by the sum.",
    ),
    Row(
        "`lookahead`",
        around_sgd(lambda opt: optax.lookahead(opt, 2, 0.5)),
        ref.lookahead,
        *(RIGHT, RIGHT, OTHER_STRUCTURE),
        "`dtnh` gets both sets of parameters: no granularity, average or `inner`.",
        params=optax.LookaheadParams.init_synced,
    ),
    Row(
        "`contrib.split_real_and_imaginary`",
        around_sgd(contrib.split_real_and_imaginary),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Recommended.",
        complex_body=True,
    ),
    Row(
        "`contrib.sam`",
        around_sgd(lambda opt: contrib.sam(opt, climb())),
        ref.sam(ref.joint),
        *(RIGHT, NO_KEYWORD, RIGHT),
        "Climbs along the sum. Accepts no keywords: use a pair.",
    ),
)

TRAINERS = (
    Row(
        "`microbatching.microbatch`",
        chain,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Wrap what `pair_value_and_grad` returns, with the accumulator `MEAN`.",
        gradients=running.microbatched,
    ),
    Row(
        "Flax `TrainState.apply_gradients`",
        chain,
        ref.plain,
        *(RIGHT, ONE_GRADIENT, RIGHT),
        "Passes no keywords to the optimizer: use `grads=GradientPair(g, r)`.",
        trainer=running.train_state,
    ),
    Row(
        "Flax `nnx.Optimizer.update`",
        chain,
        ref.plain,
        *(ONE_GRADIENT, RIGHT, RIGHT),
        "Turns a pair into an NNX state: use `regularizer_grads=r`.",
        trainer=running.nnx_optimizer,
    ),
    Row(
        "big_vision, openpi",
        chain,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "The optimizer is built before the parameters: use `l2_sp` without "
        "`pretrained`. The masks in big_vision's `make` reject pairs, and openpi's "
        "clipping scales both gradients of a pair together.",
        at_init=True,
        trainer=running.from_a_config,
    ),
    Row(
        "Keras, lists of arrays",
        chain,
        ref.in_each_part,
        *(RIGHT, RIGHT, RIGHT),
        "Paths do not name layers: pass labels as `granularity`.",
        at_init=True,
        options={"granularity": ["body", "head"]},
        trainer=running.lists,
    ),
)

SECTIONS = {
    "Around `dtnh`": AROUND,
    "Before `dtnh`": BEFORE,
    "After `dtnh`": AFTER,
    "Gradients and trainers": TRAINERS,
}


def advice(row):
    """What to do, and what each form that differs does instead."""
    forms_of = {}
    for form, name in COLUMNS.items():
        outcome = row.outcome(form)
        if isinstance(outcome, Differs):
            forms_of.setdefault(outcome.why, []).append(name)
    whys = [f"{', '.join(names)}: {why}." for why, names in forms_of.items()]
    return " ".join([row.advice, *(why[0].upper() + why[1:] for why in whys)])


def markdown():
    lines = []
    for section, rows in SECTIONS.items():
        lines += [f"## {section}", "", f"| | {' | '.join(COLUMNS.values())} | |"]
        lines += ["|---|---|---|---|---|"]
        for row in rows:
            cells = [row.outcome(form).cell for form in COLUMNS]
            lines.append(f"| {' | '.join([row.name, *cells, advice(row)])} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    FRAGMENT.write_text(markdown())
