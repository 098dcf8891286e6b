"""One small network, trained on a mesh of eight devices in every layout and style.

Layouts: ``data``, parameters on every device; ``fsdp``, every array in eight shards;
``tensor``, two rows of four devices: the first layer is split by columns, the second by
rows, and the last bias is whole on every device. The batch is always divided.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dtnh_jax import (
    GradientPair,
    dtnh_adamw,
    l2,
    l2_sp,
    logit_distillation,
    mix_regularizers,
    pair_value_and_grad,
    project_conflict,
)

LAYOUTS = ("data", "fsdp", "tensor")
STYLES = ("automatic", "explicit", "shard_map")
SHARDED_OVER = {"data": None, "fsdp": "data", "tensor": "model"}
TWO_AXES = {  # each array over other axes than the next
    "first": {"kernel": P("data", "model"), "bias": P("data")},
    "second": {"kernel": P(None, "model"), "bias": P()},
}


def specs(layout):
    """Of the parameters."""
    if layout == "tensor":
        first = {"kernel": P(None, "model"), "bias": P("model")}
        return {"first": first, "second": {"kernel": P("model"), "bias": P()}}
    spec = P("data") if layout == "fsdp" else P()
    return {name: {"kernel": spec, "bias": spec} for name in ("first", "second")}


def mesh(layout, style):
    shape = (2, 4) if layout == "tensor" else (8, 1)
    kind = AxisType.Explicit if style == "explicit" else AxisType.Auto
    return jax.make_mesh(shape, ("data", "model"), axis_types=(kind,) * 2)


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"first": (8, 16), "second": (16, 8)}
    return {
        name: {
            "kernel": rng.normal(0, 0.5, shape).astype(np.float32),
            "bias": rng.normal(0, 0.5, shape[1:]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }


@functools.cache
def batch():
    """Inputs, and targets that pull away from what ``network(1)`` makes of them."""
    x = np.random.default_rng(9).normal(size=(16, 8)).astype(np.float32)
    out = jax.jit(lambda: forward(network(1), x, "data", "automatic"))()
    return x, -3 * np.asarray(out)


def forward(params, x, layout, style):
    """The network's outputs, written as each style has it."""
    if layout == "fsdp" and style == "shard_map":
        gather = functools.partial(jax.lax.all_gather, axis_name="data", tiled=True)
        params = jax.tree.map(gather, params)
    if layout == "fsdp" and style == "explicit":
        params = jax.tree.map(lambda w: jax.sharding.reshard(w, P()), params)
    first, second = params["first"], params["second"]
    h = jnp.tanh(x @ first["kernel"] + first["bias"][None])
    whole = {"out_sharding": P("data", None)} if style == "explicit" else {}
    out = jnp.matmul(h, second["kernel"], **whole)
    if layout == "tensor" and style == "shard_map":
        out = jax.lax.psum(out, "model")
    return out + second["bias"][None]


def losses(params, pretrained, data, layout, style):
    """Loss and distillation penalty, of the whole batch."""
    x, y = data
    outputs = forward(params, x, layout, style)
    teacher = forward(pretrained, x, layout, style)
    values = jnp.mean((outputs - y) ** 2), logit_distillation(outputs, teacher, 1.0)
    if style == "shard_map":
        return tuple(jax.lax.pmean(v, "data") for v in values)
    return values


def optimizer(axis_name=None):
    """The steady rule, with a distillation penalty as one more regularizer."""
    mix = mix_regularizers(l2_sp(pretrained=network(1)), l2(), axis_name=axis_name)
    tx = dtnh_adamw(0.05, reference_decay=0.9, axis_name=axis_name)
    return optax.chain(mix, tx)


def make_step(layout, style, axis_name=None):
    """``step(params, state, pretrained, data)``; in shard_map, of one device."""
    tx = optimizer(axis_name)

    def step(params, state, pretrained, data):
        _, pair = pair_value_and_grad(losses)(params, pretrained, data, layout, style)
        updates, state = tx.update(pair, state, params)
        return optax.apply_updates(params, updates), state

    return step


def state_specs(tx, params, where):
    """Of the optimizer's state: averages and anchors are sharded as the parameters."""
    return optax.tree.map_params(
        tx,
        lambda _, spec: spec,
        jax.eval_shape(tx.init, params),
        where,
        transform_non_params=lambda _: P(),
    )


def place(on, tree, where):
    """Puts arrays on a mesh, with specs spelt as ``jax.jit`` spells them there.

    On an explicit mesh with an entry for every dimension, otherwise with none for the
    last ones that are whole. Another spelling is the same place, but costs a second
    compilation, of any step.
    """
    explicit = AxisType.Explicit in on.axis_types

    def put(x, spec):
        whole = (None,) * (x.ndim - len(spec)) if explicit else ()
        return jax.device_put(x, NamedSharding(on, P(*spec, *whole)))

    return jax.tree.map(put, tree, where)


def training(layout, style):
    """A jitted step that donates its arguments, and the placed start."""
    on = mesh(layout, style)
    params, pretrained = network(0), network(1)
    tx = optimizer()
    of_params = specs(layout)
    where = of_params, state_specs(tx, params, of_params)
    rest = of_params, P("data")
    start = place(on, (params, jax.jit(tx.init)(params)), where)
    given = place(on, (pretrained, batch()), (of_params, (P("data"), P("data"))))
    axis_name = SHARDED_OVER[layout] if style == "shard_map" else None
    step = make_step(layout, style, axis_name)
    if style == "shard_map":
        step = jax.shard_map(step, mesh=on, in_specs=(*where, *rest), out_specs=where)
    return jax.jit(step, donate_argnums=(0, 1)), start, given, on


def alone(steps):
    """The same training on one device."""
    params, pretrained = network(0), network(1)
    state = jax.jit(optimizer().init)(params)
    step = jax.jit(make_step("data", "automatic"))
    for _ in range(steps):
        params, state = step(params, state, pretrained, batch())
    return params, state


@functools.cache
def gradients(seed, integers=False):
    """A pair in conflict, of any numbers or of small whole ones, as NumPy's arrays."""
    g, v = network(seed), network(seed + 1)
    r = jax.tree.map(lambda a, b: b - np.float32(0.5) * a, g, v)
    if integers:
        g, r = jax.tree.map(lambda x: np.round(8 * x), (g, r))
    return GradientPair(g, r)


def in_shard_map(tx, params, where, check_vma=True):
    """``tx.update`` of a pair in shard_map, on the mesh of ``tensor``."""
    state_where = state_specs(tx, params, where)
    return jax.shard_map(
        tx.update,
        mesh=mesh("tensor", "shard_map"),
        in_specs=(GradientPair(where, where), state_where, where),
        out_specs=(where, state_where),
        check_vma=check_vma,
    )


def project(layout, axis_name, where=None, check_vma=True, **options):
    """``project_conflict`` in shard_map."""
    where = where or specs(layout)
    return jax.jit(
        jax.shard_map(
            functools.partial(project_conflict, axis_name=axis_name, **options),
            mesh=mesh(layout, "shard_map"),
            in_specs=(GradientPair(where, where),),
            out_specs=where,
            check_vma=check_vma,
        )
    )


COLLECTIVE = re.compile(
    r"= (\(.*?\)|\S+) "
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-done)?\("
)


def collectives(text):
    """The kind of each collective in HLO, and how many numbers are in its result.

    An asynchronous collective is two instructions: "-start", which is passed over, and
    "-done", whose result is the collective's.
    """
    for result, kind in COLLECTIVE.findall(text):
        shapes = re.findall(r"\[([\d,]*)\]", re.sub(r"\{.*?\}", "", result))
        counts = (math.prod(int(n) for n in x.split(",") if n) for x in shapes)
        yield kind, sum(counts)
