"""The whole training step, with DTNH and with the same regularizer without DTNH.

L2-SP: `chain(l2_sp(), dtnh(), optimizer)`, compared with `alpha * (w - w0)` added to
the gradient by hand. The steady rule: `chain(mix_regularizers(l2_sp(), l2()),
dtnh_sgd(lr))`, or `dtnh_adamw(lr)`, compared with the optimizer alone and with L2-SP by
hand. Distillation of the last feature map: `pair_value_and_grad` and `dtnh`, compared
with one backward pass of the sum of loss and penalty. Two gradients take two backward
passes, and a backward pass costs about twice the forward pass. So in FLOPs, the floor
is 5/3 of the joint step if the teacher's outputs are computed beforehand, and 3/2 if
its forward pass is part of both steps.

The forward pass, backward passes, optimizer and BatchNorm statistics are one jitted
function, with donated parameters and optimizer state. Images are noise. ResNets train
with SGD and momentum, vision transformers with AdamW. The cost of L2-SP and the steady
rule is work on the parameters, which does not grow with the batch. The sweep over batch
sizes shows at which size it becomes negligible.
"""

from collections.abc import Iterator

from benchmarks import goals
from benchmarks.goals import on_cpu
from benchmarks.programs.networks import Network, Size
from benchmarks.programs.steps import distillation_steps, l2_sp_steps
from benchmarks.rows import Measured, Pair, Row, measured, row

TITLE = "A training step"
TABLES = {
    "time": "Time of a step.",
    "batch": "By batch size.",
    "temporaries": "Memory besides arguments and results.",
}
GROWTH = {"batch": ("ms",)}

L2_SP, DISTILLATION, TEACHER = "L2-SP", "distillation", "distillation, with teacher"
PAIRS = {
    L2_SP: (
        Pair("dtnh", "by hand", goals.L2_SP_STEP),
        Pair("steady rule", "no regularizer", goals.STEADY_STEP),
        Pair("steady rule", "by hand"),
    ),
    DISTILLATION: (Pair("dtnh", "joint loss", goals.DISTILLATION),),
    TEACHER: (Pair("dtnh", "joint loss", goals.TEACHER),),
}
FLOORS = {L2_SP: 1.0, DISTILLATION: 5 / 3, TEACHER: 3 / 2}

# XLA's CPU backend takes tens of times as long for a 3x3 convolution of maps of 2x2 as
# of 3x3, so that at 96 pixels a ResNet is faster there than at 64 or 32.
CPU = (
    ("ResNet-50", Size(96, 8), (L2_SP, DISTILLATION)),
    ("ResNet-18", Size(96, 16), (DISTILLATION, TEACHER)),
    ("small ViT", Size(32, 32), (L2_SP, DISTILLATION, TEACHER)),
)
# In order of worth: there may be no time for all of it.
ACCELERATOR = (
    ("ResNet-50", Size(224, 64), (L2_SP,)),
    ("ViT-B/16", Size(224, 64), (L2_SP, TEACHER)),
    ("ResNet-50", Size(224, 64), (TEACHER, DISTILLATION)),
    ("ViT-B/16", Size(224, 64), (DISTILLATION,)),
)
QUICK = (("tiny ViT", Size(8, 2), (L2_SP, TEACHER)),)
BATCHES = (1, 8, 64)


def measure(quick: bool) -> Iterator[list[Row]]:
    """The rows of each network and regularizer; then of each batch."""
    for name, size, tasks in QUICK if quick else CPU if on_cpu() else ACCELERATOR:
        network = Network(name, size)
        for task in tasks:
            case = f"{network.title}, {task}"
            found = _measured(network, task, 0 if quick else 10 if on_cpu() else 4)
            yield [
                *found.rows("time", case, PAIRS[task], floor=FLOORS[task]),
                *_temporaries(case, found, PAIRS[task]),
            ]
    name, pixels = ("small ViT", 32) if on_cpu() else ("ViT-B/16", 224)
    for batch in (1, 2) if quick else BATCHES:
        size = Size(8, batch) if quick else Size(pixels, batch)
        network = Network("tiny ViT" if quick else name, size)
        found = _measured(network, L2_SP, 0 if quick else 3)
        pairs = [Pair(x.ours, x.reference) for x in PAIRS[L2_SP][:2]]
        yield found.rows("batch", network.title, pairs, axis=("batch", batch))


def _measured(network: Network, task: str, seconds: float) -> Measured:
    if task == L2_SP:
        steps = l2_sp_steps(network)
    else:
        steps = distillation_steps(network, teacher_in_step=task == TEACHER)
    names = {name for pair in PAIRS[task] for name in pair[:2]}
    needed = {name: make for name, make in steps.items() if name in names}
    return measured(needed, seconds=seconds)


def _temporaries(case: str, found: Measured, pairs: tuple[Pair, ...]) -> list[Row]:
    """The rows of temporaries, if XLA reports their size."""
    megabytes = found.figures["temporary MB"]
    rows = []
    for ours, reference, _ in pairs:
        mine, other = megabytes[ours], megabytes[reference]
        if mine is not None and other:
            # Two backward passes need more memory than one, without copying a tree.
            goal = (
                goals.STEP_MEMORY if (ours, reference) == ("dtnh", "by hand") else None
            )
            pair, figures = Pair(ours, reference, goal), {"MB": megabytes}
            rows.append(row("temporaries", case, pair, mine / other, figures))
    return rows
