"""What composes with what: every row of ``table.md``, in each form of passing r.

``python tests/composition/table.py`` writes the outcomes into ``table.md``, which has
the names of the rows and the advice. ``docs/fill.py`` puts it into the documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import optax
import references as ref
import running
from optax import chain, contrib

import dtnh_jax

# A mix behaves like `l2_sp`, with which it shares a column.
COLUMNS = ("pair", "keyword", "l2_sp")
PAGE = Path(__file__).with_name("table.md")


class Right(NamedTuple):
    """The parameters are those of the row's reference, or of this form's own."""

    reference: Callable | None = None


class Differs(NamedTuple):
    """It runs and does something else, which dtnh cannot detect."""

    reference: Callable


class Raises(NamedTuple):
    """It fails, with an error that holds these words."""

    error: type[Exception]
    words: str


CELLS = {Right: "yes", Differs: "**differs**", Raises: "error", type(None): "–"}
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
    SGD. ``mix`` is the outcome of a mix where it is not that of l2_sp. An outcome of
    None is a case that cannot happen. ``at_init`` says that ``l2_sp`` takes its anchor
    there; a mix always does. ``options`` are dtnh's. ``broken`` names the gradient that
    has a NaN in one step.
    """

    build: Callable
    reference: Callable
    pair: Any = RIGHT
    keyword: Any = RIGHT
    l2_sp: Any = RIGHT
    mix: Any = "as l2_sp"
    at_init: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    gradients: Callable = running.analytic
    broken: str | None = None
    trainer: Callable = running.optax_loop
    params: Callable = lambda x: x
    complex_body: bool = False

    def outcome(self, form):
        outcome = getattr(self, form)
        return self.l2_sp if outcome == "as l2_sp" else outcome


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


AROUND = {
    "`chain`, `named_chain`": Row(
        lambda head, opt: optax.named_chain(("dtnh", head), ("sgd", opt)), ref.plain
    ),
    "`multi_steps` of this package": Row(
        around(lambda tx: dtnh_jax.multi_steps(tx, 2)), ref.mean_of_both, l2_sp=PLAIN
    ),
    "`MultiSteps`": Row(
        around(lambda tx: optax.MultiSteps(tx, 2)),
        ref.mean_of_both,
        pair=NO_PAIR,
        keyword=Differs(ref.mean_of_g_last_r),
    ),
    "`masked`": Row(
        body_masked(BODY),
        ref.body_only,
        pair=NO_PAIR,
        keyword=NOT_MASKED,
        mix=Right(ref.mixed_body_only),
    ),
    "`masked`, callable mask, `mask_compatible_extra_args=True`": Row(
        body_masked(lambda _: BODY, mask_compatible_extra_args=True),
        ref.body_only,
        pair=NO_PAIR,
        mix=Right(ref.mixed_body_only),
    ),
    "`partition`": Row(
        body_partitioned(),
        ref.body_joint,
        pair=NO_PAIR,
        keyword=NOT_MASKED,
        mix=Right(ref.mixed_body_joint),
    ),
    "`partition`, `mask_compatible_extra_args=True`": Row(
        body_partitioned(mask_compatible_extra_args=True),
        ref.body_joint,
        pair=NO_PAIR,
        mix=Right(ref.mixed_body_joint),
    ),
    "`apply_if_finite`, NaN in `g`": Row(
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        pair=NO_PAIR_IN_CARRY,
        broken="empirical",
    ),
    "`apply_if_finite`, NaN in `r`": Row(
        around(lambda tx: optax.apply_if_finite(tx, 3)),
        ref.finite_only,
        pair=NO_PAIR_IN_CARRY,
        keyword=Differs(ref.plain),
        l2_sp=None,
        broken="regularizer",
    ),
    "`skip_nonfinite` of this package, NaN in `g`": Row(
        around(dtnh_jax.skip_nonfinite), ref.finite_only, broken="empirical"
    ),
    "`skip_nonfinite` of this package, NaN in `r`": Row(
        around(dtnh_jax.skip_nonfinite),
        ref.finite_only,
        l2_sp=None,
        broken="regularizer",
    ),
    "`conditionally_transform`": Row(
        lambda head, opt: chain(optax.conditionally_transform(head, odd), opt),
        ref.odd_steps,
        pair=NO_PAIR_IN_CARRY,
    ),
    "`conditionally_mask`": Row(
        around(lambda tx: optax.conditionally_mask(tx, odd)),
        ref.odd_steps_only,
        pair=NO_PAIR_IN_CARRY,
    ),
    "`inject_hyperparams`": Row(injected, ref.plain),
    "`flatten`": Row(
        around(optax.flatten),
        ref.plain,
        pair=ONE_GRADIENT,
        keyword=Raises(ValueError, "empirical gradient float32"),
        at_init=True,
    ),
    "`contrib.schedule_free`": Row(
        around(lambda tx: contrib.schedule_free(tx, ref.RATE)), ref.schedule_free
    ),
    "`contrib.mechanize`": Row(
        around(lambda tx: contrib.mechanize(tx, s_init=0.1)),
        ref.mechanic(lambda g, r: g),
        pair=NO_PAIR,
    ),
    "`lookahead`": Row(
        around(lambda tx: optax.lookahead(tx, 2, 0.5)),
        ref.lookahead,
        keyword=NO_KEYWORD,
        params=optax.LookaheadParams.init_synced,
    ),
    "`contrib.split_real_and_imaginary`": Row(
        around(contrib.split_real_and_imaginary),
        ref.plain,
        keyword=NO_KEYWORD,
        at_init=True,
        complex_body=True,
    ),
    "`contrib.sam`": Row(
        around(lambda tx: contrib.sam(tx, climb())),
        ref.sam_around,
        pair=NO_PAIR,
        keyword=NO_KEYWORD,
    ),
    "`tree.map_params`": Row(forgetful, ref.plain),
}

INNER_ADAM = ref.inner(ref.Adam)
WRONG_SIGN = Differs(ref.downhill_before(ref.Adam))

BEFORE = {
    "`adam`, or another whole optimizer": Row(
        lambda head, opt: chain(optax.adam(ref.RATE), head),
        INNER_ADAM,
        pair=NO_PAIR,
        keyword=WRONG_SIGN,
        l2_sp=WRONG_SIGN,
    ),
    "`scale_by_adam`": Row(
        before(optax.scale_by_adam()),
        INNER_ADAM,
        pair=NO_PAIR,
        keyword=Differs(ref.before(ref.Adam)),
        l2_sp=Differs(ref.before(ref.Adam)),
    ),
    "`trace` (momentum)": Row(
        before(optax.trace(0.9)),
        ref.inner(ref.Momentum),
        pair=NO_PAIR,
        keyword=Differs(ref.before(ref.Momentum)),
        l2_sp=Differs(ref.before(ref.Momentum)),
    ),
    "`mix_regularizers` of this package": Row(
        before(dtnh_jax.mix_regularizers(dtnh_jax.l2(mask=True))),
        ref.mixed_with_decay,
        l2_sp=Raises(TypeError, "l2_sp makes the pair"),
    ),
    "`add_decayed_weights`": Row(
        before(optax.add_decayed_weights(0.1)), ref.decayed_before, pair=NO_PAIR
    ),
    "`clip_by_global_norm`": Row(
        before(optax.clip_by_global_norm(0.5)),
        ref.clipped_g,
        pair=Differs(ref.clipped_pair),
    ),
    "`scale` (of the loss, undone)": Row(
        before(optax.scale(0.5)), ref.halved_g, pair=Right(ref.halved_pair)
    ),
    "`zero_nans`": Row(
        before(optax.zero_nans()),
        ref.nan_as_zero,
        pair=NO_PAIR_IN_CARRY,
        broken="empirical",
    ),
    "`freeze`": Row(
        before(optax.freeze(HEAD)),
        ref.head_frozen,
        pair=NO_PAIR,
        keyword=Differs(ref.head_frozen_in_g),
        l2_sp=Differs(ref.head_frozen_in_g),
    ),
    "`snapshot`": Row(before(optax.snapshot("norm", optax.tree.norm)), ref.plain),
}

AFTER = {
    "`scale_by_adam`": Row(after(optax.scale_by_adam()), ref.after(ref.Adam)),
    "`trace` (momentum)": Row(after(optax.trace(0.9)), ref.after(ref.Momentum)),
    "`add_decayed_weights`": Row(
        after(optax.add_decayed_weights(0.1)), ref.decayed_after
    ),
    "`clip_by_global_norm`": Row(
        after(optax.clip_by_global_norm(0.5)), ref.clipped_after
    ),
    "`freeze`": Row(after(optax.freeze(HEAD)), ref.head_frozen),
    "`masked`": Row(
        lambda head, opt: chain(head, optax.masked(opt, BODY), optax.freeze(HEAD)),
        ref.head_frozen,
    ),
    "`partition`": Row(
        around_sgd(
            lambda opt: optax.partition(
                {"body": opt, "head": optax.set_to_zero()}, LABELS
            )
        ),
        ref.head_frozen,
    ),
    "`MultiSteps`": Row(
        around_sgd(lambda opt: optax.MultiSteps(opt, 2)), ref.mean_of_projections
    ),
    "`apply_if_finite`, NaN in `g`": Row(
        around_sgd(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        broken="empirical",
    ),
    "`apply_if_finite`, NaN in `r`": Row(
        around_sgd(lambda opt: optax.apply_if_finite(opt, 3)),
        ref.finite_only,
        l2_sp=None,
        broken="regularizer",
    ),
    "`zero_nans`": Row(
        after(optax.zero_nans()), ref.nan_as_zero_after, broken="empirical"
    ),
    "`conditionally_transform`": Row(
        after(optax.conditionally_transform(optax.add_decayed_weights(0.1), odd)),
        ref.decayed_at_odd_steps,
    ),
    "`conditionally_mask`": Row(
        around_sgd(lambda opt: optax.conditionally_mask(opt, odd)), ref.odd_steps_only
    ),
    "`inject_hyperparams`": Row(
        lambda head, _: chain(head, optax.inject_hyperparams(optax.sgd)(ref.RATE)),
        ref.plain,
    ),
    "`flatten`": Row(around_sgd(optax.flatten), ref.plain),
    "`contrib.schedule_free`": Row(
        around_sgd(lambda opt: contrib.schedule_free(opt, ref.RATE)), ref.schedule_free
    ),
    "`contrib.mechanize`": Row(
        around_sgd(lambda opt: contrib.mechanize(opt, s_init=0.1)),
        ref.mechanic(ref.joint),
    ),
    "`lookahead`": Row(
        around_sgd(lambda opt: optax.lookahead(opt, 2, 0.5)),
        ref.lookahead,
        l2_sp=OTHER_STRUCTURE,
        params=optax.LookaheadParams.init_synced,
    ),
    "`contrib.split_real_and_imaginary`": Row(
        around_sgd(contrib.split_real_and_imaginary), ref.plain, complex_body=True
    ),
    "`contrib.sam`": Row(
        around_sgd(lambda opt: contrib.sam(opt, climb())),
        ref.sam(ref.joint),
        keyword=NO_KEYWORD,
    ),
}

TRAINERS = {
    "`microbatching.microbatch`": Row(chain, ref.plain, gradients=running.microbatched),
    "Flax `TrainState.apply_gradients`": Row(
        chain, ref.plain, keyword=ONE_GRADIENT, trainer=running.train_state
    ),
    "Flax `nnx.Optimizer.update`": Row(
        chain, ref.plain, pair=ONE_GRADIENT, trainer=running.nnx_optimizer
    ),
    "big_vision, openpi": Row(
        chain, ref.plain, at_init=True, trainer=running.from_a_config
    ),
    "Keras, lists of arrays": Row(
        chain,
        ref.in_each_part,
        at_init=True,
        options={"granularity": ["body", "head"]},
        trainer=running.lists,
    ),
}

SECTIONS = {
    "Around `dtnh`": AROUND,
    "Before `dtnh`": BEFORE,
    "After `dtnh`": AFTER,
    "Gradients and trainers": TRAINERS,
}


def filled(page):
    """The page with the outcome of every row, and the names of all the rows in it."""
    lines, names, rows = [], [], {}
    for line in page.splitlines():
        if line.startswith("## "):
            rows = SECTIONS[line.removeprefix("## ")]
        name, *rest = line.strip("| ").split(" | ")
        if name in rows:
            cells = [CELLS[type(rows[name].outcome(form))] for form in COLUMNS]
            line = f"| {' | '.join([name, *cells, rest[-1]])} |"
            names.append(name)
        lines.append(line)
    return "\n".join(lines) + "\n", names


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text())[0])
