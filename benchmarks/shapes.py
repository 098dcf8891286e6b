"""The shapes of real networks' arrays."""

import math


def resnet50() -> dict[str, tuple[int, ...]]:
    """The 161 arrays of ResNet-50, 25.6 million numbers (He et al., 2016)."""
    shapes: dict[str, tuple[int, ...]] = {
        "stem/conv": (7, 7, 3, 64),
        **_norm("stem", 64),
    }
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            name = f"stage{stage}/block{block}"
            convs = [(1, channels, width), (3, width, width), (1, width, 4 * width)]
            if block == 0:
                convs.append((1, channels, 4 * width))
            for i, (size, into, out) in enumerate(convs):
                shapes[f"{name}/conv{i}"] = (size, size, into, out)
                shapes |= _norm(f"{name}/norm{i}", out)
            channels = 4 * width
    return {**shapes, "head/kernel": (2048, 1000), "head/bias": (1000,)}


def _norm(name: str, features: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (features,), f"{name}/bias": (features,)}


def size(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers there are."""
    return sum(math.prod(shape) for shape in shapes.values())
