"""What composes with what: every row, in each of the three forms of handing over r.

``python tests/composition/table.py`` writes the table to ``table.md``, from where
``docs/fill.py`` puts it into the documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optax
import references as ref
import running
from optax import chain, contrib

import dtnh_jax

FORMS = {"pair": "pair", "keyword": "keyword", "l2_sp": "`l2_sp`"}
FRAGMENT = Path(__file__).with_name("table.md")


@dataclass(frozen=True)
class Right:
    """The parameters are those of the row's reference, or of this form's own."""

    reference: Callable | None = None
    cell = "yes"


@dataclass(frozen=True)
class Differs:
    """It runs and does something else, which dtnh has no means to notice."""

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
    """There is nothing to ask."""

    cell = "–"


RIGHT = Right()
NO_PAIR = Raises(ValueError, "GradientPair|named tuple")  # so older JAX
NO_PAIR_IN_CARRY = Raises(TypeError, "GradientPair")  # of scan, or of cond's branches
NO_KEYWORD = Raises(TypeError, "unexpected keyword argument 'regularizer_grads'")
ONE_GRADIENT = Raises(TypeError, "dtnh needs two gradients")
NOT_MASKED = Raises(ValueError, r"\['head'\], empirical gradient a MaskedNode")
NOT_PRETRAINED = Raises(ValueError, "`pretrained` has no array for the parameter")


@dataclass(frozen=True)
class Row:
    """One composition.

    ``build(head, opt)`` makes it from dtnh (in the ``l2_sp`` form with l2_sp before it)
    and SGD. ``broken`` names the gradient that has a NaN in one step.
    """

    name: str
    build: Callable
    reference: Callable
    pair: Any
    keyword: Any
    l2_sp: Any
    advice: str
    broken: str | None = None
    trainer: Callable = running.optax_loop
    params: Callable = lambda x: x
    complex_body: bool = False


def around(wrapper):
    return lambda head, opt: wrapper(chain(head, opt))


def before(tx):
    return lambda head, opt: chain(tx, head, opt)


def behind(tx):
    return lambda head, opt: chain(head, tx, opt)


def behind_around(wrapper):
    """dtnh outermost, and the wrapper around SGD alone."""
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
        return updates, optax.tree.map_params(tx, lambda x: 0 * x, state)

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
        "Put `dtnh` first, after `l2_sp` where that is used.",
    ),
    Row(
        "`multi_steps` of this package",
        around(lambda tx: dtnh_jax.multi_steps(tx, 2)),
        ref.mean_of_both,
        *(RIGHT, RIGHT, RIGHT),
        "Averages both gradients, then projects once.",
    ),
    Row(
        "`MultiSteps`",
        around(lambda tx: optax.MultiSteps(tx, 2)),
        ref.mean_of_both,
        NO_PAIR,
        Differs(ref.mean_of_g_last_r, "it takes the last micro-step's `r` for all"),
        RIGHT,
        "Use `multi_steps` of this package, which takes every form.",
    ),
    Row(
        "`masked`",
        body_masked(BODY),
        ref.body_only,
        *(NO_PAIR, NOT_MASKED, RIGHT),
        "Mask behind `dtnh`; with the keyword, the next row's flag helps too.",
    ),
    Row(
        "`masked`, callable mask, `mask_compatible_extra_args=True`",
        body_masked(lambda _: BODY, mask_compatible_extra_args=True),
        ref.body_only,
        *(NO_PAIR, RIGHT, RIGHT),
        "Only the arrays in the mask are judged and projected.",
    ),
    Row(
        "`partition`",
        body_partitioned(),
        ref.body_joint,
        *(NO_PAIR, NOT_MASKED, RIGHT),
        "Partition behind `dtnh`; with the keyword, the next row's flag helps too.",
    ),
    Row(
        "`partition`, `mask_compatible_extra_args=True`",
        body_partitioned(mask_compatible_extra_args=True),
        ref.body_joint,
        *(NO_PAIR, RIGHT, RIGHT),
        "Each part with a `dtnh` of its own is judged by itself.",
    ),
    Row(
        "`apply_if_finite`, NaN in `g`",
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "Put it behind `dtnh`, where it sees both gradients.",
        broken="empirical",
    ),
    Row(
        "`apply_if_finite`, NaN in `r`",
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        NO_PAIR_IN_CARRY,
        Differs(ref.plain, "it looks at `g` alone, and the NaN reaches the parameters"),
        Absent(),
        "Put it behind `dtnh`, where it sees both gradients.",
        broken="regularizer",
    ),
    Row(
        "`skip_nonfinite` of this package, NaN in `g`",
        around(dtnh_jax.skip_nonfinite),
        ref.finite_only,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it: no average within keeps the NaN.",
        broken="empirical",
    ),
    Row(
        "`skip_nonfinite` of this package, NaN in `r`",
        around(dtnh_jax.skip_nonfinite),
        ref.finite_only,
        *(RIGHT, RIGHT, Absent()),
        "The place for it: it looks at both gradients.",
        broken="regularizer",
    ),
    Row(
        "`multi_steps` that skips, NaN in `r`",
        around(
            lambda tx: dtnh_jax.multi_steps(
                tx, 1, should_skip_update_fn=optax.skip_not_finite
            )
        ),
        ref.finite_only,
        *(RIGHT, RIGHT, Absent()),
        "`should_skip_update_fn=optax.skip_not_finite` looks at both gradients.",
        broken="regularizer",
    ),
    Row(
        "`conditionally_transform`",
        lambda head, opt: chain(optax.conditionally_transform(head, odd), opt),
        ref.odd_steps,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "With pairs, use a schedule as `weight` that is 0 in the other steps.",
    ),
    Row(
        "`conditionally_mask`",
        around(lambda tx: optax.conditionally_mask(tx, odd)),
        ref.odd_steps_only,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "With pairs, put it behind `dtnh`.",
    ),
    Row(
        "`inject_hyperparams`",
        injected,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "A callable argument is taken for a schedule: name it in `static_args`.",
    ),
    Row(
        "`flatten`",
        around(optax.flatten),
        ref.plain,
        ONE_GRADIENT,
        Raises(ValueError, "empirical gradient an array of shape"),
        NOT_PRETRAINED,
        "Put it behind `dtnh`.",
    ),
    Row(
        "`contrib.schedule_free`",
        around(lambda tx: contrib.schedule_free(tx, ref.RATE)),
        ref.schedule_free,
        *(RIGHT, RIGHT, RIGHT),
        "Either place is right.",
    ),
    Row(
        "`contrib.mechanize`",
        around(lambda tx: contrib.mechanize(tx, s_init=0.1)),
        ref.mechanic(lambda g, r: g),
        *(NO_PAIR, RIGHT, RIGHT),
        "Around `dtnh` it tunes the step size by `g` alone, behind it by the sum.",
    ),
    Row(
        "`lookahead`",
        around(lambda tx: optax.lookahead(tx, 2, 0.5)),
        ref.lookahead,
        *(RIGHT, NO_KEYWORD, RIGHT),
        "With the keyword, put it behind `dtnh`; with `l2_sp`, around both.",
        params=optax.LookaheadParams.init_synced,
    ),
    Row(
        "`contrib.split_real_and_imaginary`",
        around(contrib.split_real_and_imaginary),
        ref.plain,
        *(RIGHT, NO_KEYWORD, NOT_PRETRAINED),
        "Put it behind `dtnh`, which takes complex numbers as they are.",
        complex_body=True,
    ),
    Row(
        "`contrib.sam`",
        around(lambda tx: contrib.sam(tx, climb())),
        ref.sam_around,
        *(NO_PAIR, NO_KEYWORD, RIGHT),
        "Around `l2_sp` it climbs along `g` alone. With pairs, put it behind.",
    ),
    Row(
        "`tree.map_params`",
        forgetful,
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Reaches what is shaped like the parameters, and nothing else of the state.",
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
        "Use `dtnh(inner=optax.scale_by_adam())`, and the learning rate behind it.",
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
        "`add_decayed_weights`",
        before(optax.add_decayed_weights(0.1)),
        ref.decayed_before,
        *(NO_PAIR, RIGHT, RIGHT),
        "Counts as a part of the empirical loss; behind `dtnh` it stands beside both.",
    ),
    Row(
        "`clip_by_global_norm`",
        before(optax.clip_by_global_norm(0.5)),
        ref.clipped_g,
        Differs(ref.clipped_pair, "it scales both by the norm of both together"),
        *(RIGHT, RIGHT),
        "Clip behind `dtnh`, or `g` alone, before the pair is made.",
    ),
    Row(
        "`scale` (of the loss, undone)",
        before(optax.scale(0.5)),
        ref.halved_g,
        *(Right(ref.halved_pair), RIGHT, RIGHT),
        "Undo it before `dtnh`: a pair is scaled as a whole, a keyword not at all.",
    ),
    Row(
        "`zero_nans`",
        before(optax.zero_nans()),
        ref.nan_as_zero,
        *(NO_PAIR_IN_CARRY, RIGHT, RIGHT),
        "Put it behind `dtnh`: the keyword's NaN would pass. Pairs run outside `scan`.",
        broken="empirical",
    ),
    Row(
        "`freeze`",
        before(optax.freeze(HEAD)),
        ref.head_frozen,
        NO_PAIR,
        *2 * [Differs(ref.head_frozen_in_g, "frozen arrays still get the regularizer")],
        "Put it last.",
    ),
    Row(
        "`snapshot`",
        before(optax.snapshot("norm", optax.tree.norm)),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "Measures what comes in: of a pair, both halves together.",
    ),
)

BEHIND = (
    Row(
        "`scale_by_adam`",
        behind(optax.scale_by_adam()),
        ref.behind(ref.Adam),
        *(RIGHT, RIGHT, RIGHT),
        "Adam rescales after the projection; `inner=` keeps the promise.",
    ),
    Row(
        "`trace` (momentum)",
        behind(optax.trace(0.9)),
        ref.behind(ref.Momentum),
        *(RIGHT, RIGHT, RIGHT),
        "Momentum mixes steps after the projection; `inner=` keeps the promise.",
    ),
    Row(
        "`add_decayed_weights`",
        behind(optax.add_decayed_weights(0.1)),
        ref.decayed_behind,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it.",
    ),
    Row(
        "`clip_by_global_norm`",
        behind(optax.clip_by_global_norm(0.5)),
        ref.clipped_behind,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it: the direction stays as projected.",
    ),
    Row(
        "`freeze`",
        behind(optax.freeze(HEAD)),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it. Frozen arrays still count when conflict is judged globally.",
    ),
    Row(
        "`masked`",
        lambda head, opt: chain(head, optax.masked(opt, BODY), optax.freeze(HEAD)),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it.",
    ),
    Row(
        "`partition`",
        behind_around(
            lambda opt: optax.partition(
                {"body": opt, "head": optax.set_to_zero()}, LABELS
            )
        ),
        ref.head_frozen,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it.",
    ),
    Row(
        "`MultiSteps`",
        behind_around(lambda opt: optax.MultiSteps(opt, 2)),
        ref.mean_of_projections,
        *(RIGHT, RIGHT, RIGHT),
        "Averages projections, each made from one micro-step; see `multi_steps`.",
    ),
    Row(
        "`apply_if_finite`, NaN in `g`",
        behind_around(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it. With `reference_decay` or `inner`, the NaN stays in them.",
        broken="empirical",
    ),
    Row(
        "`apply_if_finite`, NaN in `r`",
        behind_around(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        *(RIGHT, RIGHT, Absent()),
        "The place for it.",
        broken="regularizer",
    ),
    Row(
        "`zero_nans`",
        behind(optax.zero_nans()),
        ref.nan_as_zero_behind,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it; a NaN takes its whole group with it.",
        broken="empirical",
    ),
    Row(
        "`conditionally_transform`",
        behind(optax.conditionally_transform(optax.add_decayed_weights(0.1), odd)),
        ref.decayed_at_odd_steps,
        *(RIGHT, RIGHT, RIGHT),
        "Works in every form.",
    ),
    Row(
        "`conditionally_mask`",
        behind_around(lambda opt: optax.conditionally_mask(opt, odd)),
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
        behind_around(optax.flatten),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it.",
    ),
    Row(
        "`contrib.schedule_free`",
        behind_around(lambda opt: contrib.schedule_free(opt, ref.RATE)),
        ref.schedule_free,
        *(RIGHT, RIGHT, RIGHT),
        "Either place is right.",
    ),
    Row(
        "`contrib.mechanize`",
        behind_around(lambda opt: contrib.mechanize(opt, s_init=0.1)),
        ref.mechanic(ref.joint),
        *(RIGHT, RIGHT, RIGHT),
        "Tunes the step size by the sum.",
    ),
    Row(
        "`lookahead`",
        behind_around(lambda opt: optax.lookahead(opt, 2, 0.5)),
        ref.lookahead,
        *(RIGHT, RIGHT, NOT_PRETRAINED),
        "`dtnh` sees both sets of parameters: no granularity, average or `inner` here.",
        params=optax.LookaheadParams.init_synced,
    ),
    Row(
        "`contrib.split_real_and_imaginary`",
        behind_around(contrib.split_real_and_imaginary),
        ref.plain,
        *(RIGHT, RIGHT, RIGHT),
        "The place for it.",
        complex_body=True,
    ),
    Row(
        "`contrib.sam`",
        behind_around(lambda opt: contrib.sam(opt, climb())),
        ref.sam(ref.joint),
        *(RIGHT, NO_KEYWORD, RIGHT),
        "Climbs along the sum. Takes no keywords: use a pair.",
    ),
)

TRAINERS = (
    Row(
        "Flax `TrainState.apply_gradients`",
        chain,
        ref.plain,
        *(RIGHT, ONE_GRADIENT, RIGHT),
        "Passes no keywords on to the optimizer: use `grads=GradientPair(g, r)`.",
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
)

SECTIONS = {
    "Around `dtnh`": AROUND,
    "Before `dtnh`": BEFORE,
    "Behind `dtnh`": BEHIND,
    "Trainers": TRAINERS,
}


def advice(row):
    """What to do, and what each form that differs does instead."""
    forms_of = {}
    for form, name in FORMS.items():
        outcome = getattr(row, form)
        if isinstance(outcome, Differs):
            forms_of.setdefault(outcome.why, []).append(name)
    whys = [f"{', '.join(names)}: {why}." for why, names in forms_of.items()]
    return " ".join([row.advice, *(why[0].upper() + why[1:] for why in whys)])


def markdown():
    lines = []
    for section, rows in SECTIONS.items():
        lines += [f"## {section}", "", f"| | {' | '.join(FORMS.values())} | |"]
        lines += ["|---|---|---|---|---|"]
        for row in rows:
            cells = [getattr(row, form).cell for form in FORMS]
            lines.append(f"| {' | '.join([row.name, *cells, advice(row)])} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    FRAGMENT.write_text(markdown())
