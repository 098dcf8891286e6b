"""Which methods the demo compares with plain fine-tuning, and what it calls them."""

from typing import NamedTuple

SUM, PAPER, STEADY = "plain sum", "DTNH by layer", "steady rule"


class Arm(NamedTuple):
    """What a method regularizes with, and how that joins the empirical gradient."""

    regularizer: str
    rule: str


PLAIN = "plain"
# By key in ``METHODS``, in the order of the table's rows.
ARMS = {
    "l2-sp": Arm("L2-SP", SUM),
    "dtnh-layer": Arm("L2-SP", PAPER),
    "l2": Arm("weight decay", SUM),
    "l2-layer": Arm("weight decay", PAPER),
    "kd": Arm("distillation", SUM),
    "kd-layer": Arm("distillation", PAPER),
    "steady": Arm("L2-SP + decay", STEADY),
    "steady-kd": Arm("the same + distillation", STEADY),
}
# One row of panels for each regularizer, with the steady rule's own mix.
PANELS = {
    "L2-SP": ("l2-sp", "dtnh-layer", "steady"),
    "weight decay": ("l2", "l2-layer", "steady"),
    "distillation": ("kd", "kd-layer", "steady-kd"),
}
