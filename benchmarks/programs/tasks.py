"""Which training steps are compared, and what the ratio of their times may be."""

import dataclasses
from collections.abc import Sequence

import jax

from benchmarks.programs.steps import (
    PENALTIES,
    TrainStep,
    distillation_steps,
    l2_sp_steps,
)
from benchmarks.programs.workload import Workload
from benchmarks.timing import Program


@dataclasses.dataclass(frozen=True)
class Task:
    """A regularizer, the step it is compared with, and what the ratio may be.

    ``penalty`` is a key of ``steps.PENALTIES``; None is L2-SP. ``cpu_target`` is the
    target on a CPU, where it differs.
    """

    title: str
    reference: str
    floor: float
    accelerator_target: float
    penalty: str | None = None
    teacher_in_step: bool = False
    cpu_target: float | None = None

    @property
    def target(self) -> float:
        """What the ratio is to stay below on this machine."""
        on_cpu = jax.default_backend() == "cpu"
        return (
            self.cpu_target if on_cpu and self.cpu_target else self.accelerator_target
        )

    def steps(self, workload: Workload) -> dict[str, TrainStep]:
        """By name: the reference, those with DTNH, and what else there is."""
        network, optimizer = workload.network, workload.optimizer
        if self.penalty is None:
            return l2_sp_steps(network, optimizer)
        return distillation_steps(
            network,
            optimizer,
            PENALTIES[self.penalty],
            teacher_in_step=self.teacher_in_step,
        )

    def programs(self, workload: Workload, ours: Sequence[str]) -> dict[str, Program]:
        """The reference and, by their names, some of the other steps, compiled."""
        steps = self.steps(workload)
        return workload.programs(
            {name: steps[name] for name in (self.reference, *ours)}
        )


L2_SP = Task("L2-SP", "by hand", 1.00, 1.03, cpu_target=1.08)
LAST_MAP = Task("last map", "joint loss", 5 / 3, 1.55, "last map")
TEACHER_IN_STEP = Task("last map, teacher", "joint loss", 3 / 2, 1.45, "last map", True)
ALL_MAPS = Task("all maps", "joint loss", 5 / 3, 1.55, "all maps")
LOGITS = Task("logits", "joint loss", 5 / 3, 1.55, "logits")
