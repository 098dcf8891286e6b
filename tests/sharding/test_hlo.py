"""Collectives are counted right, in text and in programs with a known answer."""

import json
import os
import subprocess
import sys

from hlo import collectives

TEXT = """
ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %all-reduce.1 = (f32[], /*index=1*/bf16[3,5]{1,0}) all-reduce(%a, %b), to_apply=%add
  %all-reduce-start = f32[2]{0} all-reduce-start(%c), to_apply=%add
  %all-reduce-done = f32[2]{0} all-reduce-done(%all-reduce-start)
  %all-gather-start = (f32[4]{0}, f32[32]{0}) all-gather-start(%d), dimensions={0}
  %all-gather-done = f32[32]{0} all-gather-done(%all-gather-start)
  %all-to-all.7 = (u8[16]{0:T(1024)(4,1)S(1)}) all-to-all(%e), replica_groups={{0,1}}
  %fusion = f32[8,4]{1,0} fusion(%all-reduce.1), calls=%all-reduce_fusion
  ROOT %tuple = (f32[2]{0}) tuple(%all-reduce-done)
}
"""


def test_hand_written_text():
    counts = collectives(TEXT)
    assert counts["all-reduce"] == {"operations": 2, "operands": 3, "bytes": 4 + 30 + 8}
    assert counts["all-gather"] == {"operations": 1, "operands": 1, "bytes": 128}
    assert counts["all-to-all"] == {"operations": 1, "operands": 1, "bytes": 16}
    for kind in ("reduce-scatter", "collective-permute"):
        assert counts[kind] == {"operations": 0, "operands": 0, "bytes": 0}


def test_compiled_programs():
    """On four devices: a sum is one all-reduce, replicating is one all-gather, and
    turning a ring is one collective-permute."""
    flags = "--xla_force_host_platform_device_count=4"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, __file__], env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0
    one = {"operations": 1, "operands": 1}
    assert json.loads(done.stdout) == {
        "sum": {"all-reduce": {**one, "bytes": 4}},
        "replicate": {"all-gather": {**one, "bytes": 64}},
        "turn": {"collective-permute": {**one, "bytes": 16}},
        "double": {},
    }


def _programs():
    import jax
    import jax.numpy as jnp

    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("x"))
    whole = jax.sharding.NamedSharding(mesh, jax.P())
    array = jax.ShapeDtypeStruct((16,), jnp.float32, sharding=split)

    @jax.shard_map(mesh=mesh, in_specs=jax.P("x"), out_specs=jax.P("x"))
    def turn(x):
        return jax.lax.ppermute(x, "x", [(i, (i + 1) % 4) for i in range(4)])

    programs = {
        "sum": jax.jit(jnp.sum, out_shardings=whole),
        "replicate": jax.jit(lambda x: x, out_shardings=whole),
        "turn": jax.jit(turn),
        "double": jax.jit(lambda x: 2 * x, out_shardings=split),
    }
    found = {}
    for name, program in programs.items():
        counts = collectives(program.lower(array).compile().as_text())
        found[name] = {k: c for k, c in counts.items() if c["operations"]}
    return found


if __name__ == "__main__":
    print(json.dumps(_programs()))
