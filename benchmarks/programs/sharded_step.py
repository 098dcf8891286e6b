"""Compiles a sharded training step, and prints its collectives as JSON.

``python -m benchmarks.programs.sharded_step LAYERS``, on the devices that JAX finds;
started by :mod:`benchmarks.collectives`, once for each number of virtual devices.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.hlo import collectives
from dtnh_jax import dtnh, l2_sp

LAYOUTS = ("data-parallel", "fully sharded", "tensor-parallel")
WIDTH, BATCH, ALPHA = 128, 256, 0.1
Init = Callable[[Any], Any]
Step = Callable[[Any, Any, jax.Array], Any]


def loss(params: Any, batch: jax.Array) -> jax.Array:
    """A plain network that has to return its input."""
    x = batch
    for layer in params.values():
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return jnp.mean((x - batch) ** 2)


def by_hand() -> tuple[Init, Step]:
    """L2-SP without DTNH; the state is the pretrained parameters."""

    def step(params, pretrained, batch):
        grads = jax.grad(loss)(params, batch)
        new = jax.tree.map(
            lambda w, g, w0: w - 0.1 * (g + ALPHA * (w - w0)), params, grads, pretrained
        )
        return new, pretrained

    return lambda pretrained: pretrained, step


def with_dtnh(granularity: str) -> tuple[Init, Step]:
    """L2-SP with DTNH; the state is the optimizer's."""
    tx = optax.chain(l2_sp(ALPHA), dtnh(granularity=granularity), optax.sgd(0.1))

    def step(params, state, batch):
        grads = jax.grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return tx.init, step


def spec(layout: str, i: int, shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """Over which mesh axes an array of layer ``i`` is split."""
    if layout == "data-parallel":
        return PartitionSpec()
    if layout == "tensor-parallel":
        columns = i % 2 == 0
        if len(shape) == 1:
            return PartitionSpec("model") if columns else PartitionSpec()
        return PartitionSpec(None, "model") if columns else PartitionSpec("model", None)
    divisible = [axis for axis, n in enumerate(shape) if n % devices == 0]
    largest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(
        *("data" if axis == largest else None for axis in range(len(shape)))
    )


def compiled(program: tuple[Init, Step], layout: str, layers: int) -> str:
    """The text of a step that keeps the shardings of parameters and state."""
    init, step = program
    devices = jax.device_count()
    model = 2 ** (math.ceil(math.log2(devices) / 2)) if layout == LAYOUTS[2] else 1
    mesh: Mesh = jax.make_mesh(
        (devices // model, model),
        ("data", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )

    def array(shape: tuple[int, ...], where: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            shape, jnp.float32, sharding=NamedSharding(mesh, where)
        )

    layer = {"kernel": (WIDTH, WIDTH), "bias": (WIDTH,)}
    params = {
        f"layer{i:02}": {
            name: array(shape, spec(layout, i, shape, devices))
            for name, shape in layer.items()
        }
        for i in range(layers)
    }
    batch = array((BATCH, WIDTH), PartitionSpec("data"))
    # Of abstract parameters, the anchor is abstract, too, with their shardings.
    state = init(params)
    kept = jax.tree.map(
        lambda x: x.sharding if isinstance(x, jax.ShapeDtypeStruct) else None,
        (params, state),
    )
    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=kept)
    return jitted.lower(params, state, batch).compile().as_text() or ""


def main(layers: int) -> None:
    rows = []
    for layout in LAYOUTS:
        without = collectives(compiled(by_hand(), layout, layers))
        rows += [
            {
                "devices": jax.device_count(),
                "layout": layout,
                "granularity": granularity,
                "groups": groups,
                "collectives": collectives(
                    compiled(with_dtnh(granularity), layout, layers)
                ),
                "collectives_without": without,
            }
            for granularity, groups in (("global", 1), ("layer", layers))
        ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(int(sys.argv[1]))
