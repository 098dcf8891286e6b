"""The limits that ratios should stay below."""

from typing import NamedTuple

import jax


class Goal(NamedTuple):
    """A limit on CPUs, and one on accelerators."""

    name: str
    cpu: float
    accelerator: float

    @property
    def limit(self) -> float:
        """The limit on this machine."""
        return self.cpu if on_cpu() else self.accelerator


# All-reduces that the steady rule may add to a step with L2-SP by hand, by layout, for
# a network of two layers, of two arrays each.
ALL_REDUCES = {"data": 0, "fsdp": 5, "tensor": 2}


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


L2_SP_STEP = Goal("step with L2-SP / by hand", 1.08, 1.03)
STEADY_STEP = Goal("step with the steady rule / without regularizer", 1.04, 1.04)
DISTILLATION = Goal("step with distillation / joint loss", 1.55, 1.55)
TEACHER = Goal("the same, with the teacher's forward pass", 1.45, 1.45)
STEP_MEMORY = Goal("temporaries of a step with L2-SP / by hand", 1.1, 1.1)
FLOAT32 = Goal("update, float32 / plain sum", 2.0, 1.1)
BFLOAT16 = Goal("update, bfloat16 / plain sum", 3.0, 1.1)
STEADY_UPDATE = Goal("update of the steady rule / AdamW", 1.8, 1.4)
UPDATE_MEMORY = Goal("parameters and temporaries of an update / by hand", 1.1, 1.1)
# AdamW has two trees; with an anchor and an average, there are four. The rest is
# scalars.
STATE_FLOAT32 = Goal("state of the steady rule, float32 / AdamW", 2.01, 2.01)
# The average stays in float32 and counts as two trees.
STATE_BFLOAT16 = Goal("state of the steady rule, bfloat16 / AdamW", 2.51, 2.51)
COMPILE = Goal("compile time of an update / plain sum", 12, 12)
