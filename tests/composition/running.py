"""Runs a row of the table for some steps, in one of the three forms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import references as ref

from dtnh_jax import GradientPair, dtnh, l2_sp


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
        form = jax.tree.structure(nnx.state(model, nnx.Param))
        grads, kwargs = jax.tree.map(
            lambda tree: form.unflatten(jax.tree.leaves(tree)),
            (grads, kwargs),
            is_leaf=lambda x: isinstance(x, dict) and "body" in x,
        )
        optimizer.update(model, grads, **kwargs)
        return nnx.split((model, optimizer))[1]

    def params(carry):
        return nnx.to_pure_dict(nnx.state(nnx.merge(graph, carry)[0]))

    return Trainer(start, step, params)


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
    return ref.problem(fixed_anchor=form == "l2_sp", broken=row.broken)


def run(row, form):
    """The parameters after all steps, as a vector.

    The steps are traced under ``scan``, which holds the state to one structure, shape
    and type; the numbers are then made one operation at a time, which saves compiling.
    """
    p = problem(row, form)
    targets, anchors = (network(v, row.complex_body) for v in (p.targets, p.anchors))
    head = dtnh(ref.WEIGHT)
    if form == "l2_sp":
        head = optax.chain(l2_sp(jax.tree.map(lambda x: x[0], anchors), 1.0), head)
    tx = row.build(head, optax.sgd(ref.RATE))
    trainer = row.trainer()

    def params(carry):
        both = trainer.params(carry)
        return both.fast if isinstance(both, optax.LookaheadParams) else both

    def step(carry, centers):
        g, r = (jax.tree.map(jnp.subtract, params(carry), c) for c in centers)
        if form == "pair":
            return trainer.step(tx, carry, GradientPair(g, r)), None
        kwargs = {"regularizer_grads": r} if form == "keyword" else {}
        return trainer.step(tx, carry, g, **kwargs), None

    carry = trainer.start(tx, row.params(network(p.start, row.complex_body)))
    jax.eval_shape(lambda: jax.lax.scan(step, carry, (targets, anchors)))
    with jax.disable_jit():
        carry, _ = jax.lax.scan(step, carry, (targets, anchors))
    return vector(params(carry))
