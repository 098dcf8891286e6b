"""Runs a row of the table for some steps, in one of the four forms."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import references as ref

from dtnh_jax import (
    GradientPair,
    dtnh,
    l2,
    l2_sp,
    mix_regularizers,
    pair_value_and_grad,
)


class Trainer(NamedTuple):
    """A training loop: what it carries from step to step, and what it does in one."""

    start: Any  # (tx, params) -> carry
    step: Any  # (tx, carry, grads, **kwargs) -> carry
    params: Any  # carry -> params


def optax_loop():
    def step(tx, carry, grads, **kwargs):
        params, state = carry
        updates, state = tx.update(grads, state, params, **kwargs)
        return optax.apply_updates(params, updates), state

    return Trainer(lambda tx, params: (params, tx.init(params)), step, lambda c: c[0])


def train_state():
    from flax.training.train_state import TrainState

    return Trainer(
        lambda tx, params: TrainState.create(apply_fn=None, params=params, tx=tx),
        lambda tx, state, grads, **kwargs: state.apply_gradients(grads=grads, **kwargs),
        lambda state: state.params,
    )


def nnx_optimizer():
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, body, head):
            self.body, self.head = nnx.Param(body), nnx.Param(head)

    graph = None

    def start(tx, params):
        nonlocal graph
        model = Model(**params)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        graph, state = nnx.split((model, optimizer))
        return state

    def step(tx, carry, grads, **kwargs):
        model, optimizer = nnx.merge(graph, carry)
        # As nnx.grad would return them.
        grads, kwargs = like(nnx.state(model, nnx.Param), (grads, kwargs))
        optimizer.update(model, grads, **kwargs)
        return nnx.split((model, optimizer))[1]

    def params(carry):
        return nnx.to_pure_dict(nnx.state(nnx.merge(graph, carry)[0]))

    return Trainer(start, step, params)


def from_a_config():
    """Big_vision and openpi: the optimizer is made from a config before parameters are.

    The shapes of its state come first, for shardings, and ``init`` is jitted. In openpi
    parameters are an NNX state.
    """
    from flax import nnx

    def start(tx, params):
        params = nnx.State(jax.tree.map(nnx.Param, params))
        shapes = jax.eval_shape(tx.init, params)
        state = jax.jit(tx.init)(params)
        chex.assert_trees_all_equal_shapes_and_dtypes(shapes, state)
        return params, state

    def step(tx, carry, grads, **kwargs):
        params, state = carry
        grads, kwargs = like(params, (grads, kwargs))
        updates, state = tx.update(grads, state, params, **kwargs)
        return optax.apply_updates(params, updates), state

    return Trainer(start, step, lambda carry: nnx.to_pure_dict(carry[0]))


def lists():
    """Keras: the variables of a model are a list of arrays."""

    def as_lists(tree):
        return jax.tree.map(lambda x: [x["body"], x["head"]], tree, is_leaf=is_network)

    def step(tx, carry, grads, **kwargs):
        params, state = carry
        grads, kwargs = as_lists((grads, kwargs))
        updates, state = tx.update(grads, state, params, **kwargs)
        return optax.apply_updates(params, updates), state

    return Trainer(
        lambda tx, params: (as_lists(params), tx.init(as_lists(params))),
        step,
        lambda carry: dict(zip(("body", "head"), carry[0], strict=True)),
    )


def is_network(x):
    return isinstance(x, dict) and "body" in x


def like(params, tree):
    """``tree`` with each network in it in the containers of ``params``."""
    form = jax.tree.structure(params)
    return jax.tree.map(
        lambda x: form.unflatten(jax.tree.leaves(x)), tree, is_leaf=is_network
    )


def analytic(params, centers):
    """Both gradients, from the target and the anchor."""
    return GradientPair(*(jax.tree.map(jnp.subtract, params, c) for c in centers))


def microbatched(params, centers):
    """The same, from a batch of four around these centers, in two parts."""
    batch = jax.tree.map(
        lambda c: jnp.stack([c + offset for offset in (-3.0, -1.0, 1.0, 3.0)]), centers
    )

    def losses(params, batch):
        rest = analytic(params, batch)
        return tuple(optax.tree.norm(x, squared=True) / 2 / 2 for x in rest)

    differentiate = optax.microbatching.microbatch(
        pair_value_and_grad(losses),
        argnums=1,
        microbatch_size=2,
        accumulator=optax.microbatching.AccumulationType.MEAN,
    )
    return differentiate(params, batch)[1]


def network(v, complex_body=False):
    """The vector as a network: a 2 x 2 body, or one of 2 complex numbers, and a head.

    ``v`` may have more dimensions before the last.
    """
    v = jnp.asarray(v, jnp.float32)
    body, head = v[..., :4], v[..., 4:]
    if complex_body:
        return {"body": jax.lax.complex(body[..., :2], body[..., 2:]), "head": head}
    return {"body": body.reshape(*body.shape[:-1], 2, 2), "head": head}


def vector(params):
    body, head = (np.asarray(params[key]).ravel() for key in ("body", "head"))
    parts = (body.real, body.imag) if np.iscomplexobj(body) else (body,)
    return np.concatenate([*parts, head])


def problem(row, form):
    return ref.problem(form, row.at_init, row.broken)


def run(row, form):
    """The parameters after all steps, as a vector.

    The steps are traced under ``scan``, which holds the state to one structure, shape
    and type; the numbers are then made one operation at a time, which saves compiling.
    """
    p = problem(row, form)
    targets, anchors = (network(v, row.complex_body) for v in (p.targets, p.anchors))
    head = dtnh(ref.WEIGHT, **row.options)
    if form == "l2_sp":
        anchor = None if row.at_init else jax.tree.map(lambda x: x[0], anchors)
        head = optax.chain(l2_sp(alpha=1.0, pretrained=anchor), head)
    elif form == "mix":
        head = optax.chain(mix_regularizers(l2_sp(), l2(mask=True)), head)
    tx = row.build(head, optax.sgd(ref.RATE))
    trainer = row.trainer()

    def params(carry):
        both = trainer.params(carry)
        return both.fast if isinstance(both, optax.LookaheadParams) else both

    def step(carry, centers):
        pair = row.gradients(params(carry), centers)
        if form == "pair":
            return trainer.step(tx, carry, pair), None
        kwargs = {"regularizer_grads": pair.regularizer} if form == "keyword" else {}
        return trainer.step(tx, carry, pair.empirical, **kwargs), None

    carry = trainer.start(tx, row.params(network(p.start, row.complex_body)))
    jax.eval_shape(lambda: jax.lax.scan(step, carry, (targets, anchors)))
    with jax.disable_jit():
        carry, _ = jax.lax.scan(step, carry, (targets, anchors))
    return vector(params(carry))
