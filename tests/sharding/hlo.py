"""Counts the collectives in a compiled program's text."""

import math
import re

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
BYTES = {
    **{"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "s16": 2, "u16": 2},
    **{"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8, "c64": 8},
    "c128": 16,
}
# An asynchronous collective is two instructions: "-start", which is passed over here,
# and "-done", whose result is the collective's.
INSTRUCTION = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(?:-done)?\(")
ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, dict[str, int]]:
    """By kind: ``operations``, their ``operands``, and the ``bytes`` of their results.

    Operations in every branch of a conditional and in the body of a loop count once.

    Args:
      text: HLO, from ``compiled.as_text()``.
    """
    counts: dict[str, dict[str, int]] = {
        kind: {"operations": 0, "operands": 0, "bytes": 0} for kind in KINDS
    }
    for line in text.splitlines():
        match = INSTRUCTION.search(line)
        if match is None:
            continue
        arrays = ARRAY.findall(re.sub(r"\{.*?\}", "", match[1]))
        count = counts[match[2]]
        count["operations"] += 1
        count["operands"] += len(arrays)
        count["bytes"] += sum(BYTES[dtype] * _numbers(shape) for dtype, shape in arrays)
    return counts


def _numbers(shape: str) -> int:
    return math.prod(int(n) for n in shape.split(",") if n)
