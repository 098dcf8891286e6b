"""Two training steps in PyTorch: the plain sum, TorchJD, PCGrad by hand, SPD.

Run as a program, it measures them and prints JSON. Its argument has the arguments of
``measure``, as JSON. Nothing else imports PyTorch, whose threads would compete with
those of XLA.
"""

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torchjd import aggregation, autojac  # pyright: ignore[reportMissingImports]

from benchmarks.programs.networks import CLASSES
from benchmarks.programs.steps import ALPHA, WEIGHT
from benchmarks.timing import interleaved

AGGREGATORS = ("UPGrad", "PCGrad", "DualProj", "MGDA")

Tensors = Sequence[Any]
# Takes loss, penalty and parameters, and sets the gradients of the parameters.
Method = Callable[[Any, Any, Tensors], None]


def _conv(into: int, out: int, size: int, stride: int) -> Any:
    conv = nn.Conv2d(into, out, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class BasicBlock(nn.Module):
    def __init__(self, into: int, width: int, stride: int):
        super().__init__()
        first, second = _conv(into, width, 3, stride), _conv(width, width, 3, 1)
        self.body = nn.Sequential(first, nn.ReLU(), second)
        same = stride == 1 and into == width
        self.shortcut = nn.Identity() if same else _conv(into, width, 1, stride)

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """Images ``[n, 3, h, w]`` to logits ``[n, classes]`` and the last feature map."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        blocks = []
        for into, width in itertools.pairwise([64, 64, 128, 256, 512]):
            blocks.append(BasicBlock(into, width, 1 if width == 64 else 2))
            blocks.append(BasicBlock(width, width, 1))
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)

    def forward(self, images):
        last = self.stages(self.stem(images))
        return self.head(last.mean(dim=(2, 3))), last


def joint(loss: Any, penalty: Any, params: Tensors) -> None:
    """The plain step: one backward pass of the sum."""
    (loss + penalty).backward()


def jacobian(name: str, chunk: int | None = None) -> Method:
    """TorchJD with one of its aggregators. ``chunk=1`` runs the backward passes one
    after the other, not both at once under ``torch.vmap``."""
    aggregator = getattr(aggregation, name)()

    def method(loss, penalty, params):
        autojac.backward([loss, penalty], inputs=params, parallel_chunk_size=chunk)
        autojac.jac_to_grad(params, aggregator)

    return method


def without_conflict(a: Tensors, b: Tensors) -> list[Any]:
    """The nearest point to ``a`` that does not oppose ``b``, over all arrays."""
    product = torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
    square = torch.stack([(y * y).sum() for y in b]).sum()
    shift = product.clamp(max=0) / square
    return [x - shift * y for x, y in zip(a, b, strict=True)]


def pcgrad(loss: Any, penalty: Any, params: Tensors) -> None:
    """PCGrad (Yu et al., 2020) by hand: two backward passes, both gradients projected.

    The penalty gradient is zero for parameters that the penalty does not depend on.
    """
    g = torch.autograd.grad(loss, params, retain_graph=True)
    r = torch.autograd.grad(penalty, params, materialize_grads=True)
    pairs = zip(params, without_conflict(g, r), without_conflict(r, g), strict=True)
    for param, one, other in pairs:
        param.grad = one + other


@torch.no_grad()
def spd(optimizer: Any, params: Tensors, anchors: Tensors, weight: float = 1.0) -> None:
    """SPD (Tian et al., 2024) around a step of any optimizer, array by array.

    If the loss decreases away from the anchor, takes back the movement away from it, in
    proportion.
    """
    before = [w - w0 for w, w0 in zip(params, anchors, strict=True)]
    conditions = [(w.grad * d).sum() for w, d in zip(params, before, strict=True)]
    optimizer.step()
    for w, w0, d, condition in zip(params, anchors, before, conditions, strict=True):
        moved = w - w0
        length = moved.norm()
        share = torch.clamp((length - d.norm()) / length, min=0)
        w -= torch.where(condition < 0, weight * share, 0) * moved


METHODS: dict[str, Method] = {
    "joint loss": joint,
    **{f"TorchJD {name}": jacobian(name) for name in AGGREGATORS},
    "TorchJD UPGrad, sequential": jacobian("UPGrad", chunk=1),
    "PCGrad by hand": pcgrad,
}


def train_step(name: str, task: str, *, pixels: int, batch: int) -> Callable[[], Any]:
    """Makes a whole step with its own network and optimizer, SGD with momentum.

    The parameters start some distance from the pretrained ones. The step takes no
    arguments, and returns the loss once the device has computed it.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ResNet18(CLASSES).to(device)
    images = torch.randn(batch, 3, pixels, pixels, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    params, body = list(network.parameters()), list(network.stages.parameters())
    with torch.no_grad():
        target = network.eval()(images)[1]
        pretrained = [param.clone() for param in body]
        for param in params:
            param += 0.01 * torch.randn_like(param)
    network.train()
    optimizer = torch.optim.SGD(params, lr=1e-3, momentum=0.9)

    def penalty(last):
        if task == "distillation":
            return WEIGHT * 0.5 * (last - target).square().sum() / batch
        pairs = zip(body, pretrained, strict=True)
        return 0.5 * ALPHA * sum((w - w0).square().sum() for w, w0 in pairs)

    def step():
        optimizer.zero_grad()
        logits, last = network(images)
        loss = nn.functional.cross_entropy(logits, labels)
        if name == "SPD":
            loss.backward()
            spd(optimizer, body, pretrained)
        else:
            METHODS[name](loss, penalty(last), params)
            optimizer.step()
        return loss.item()

    return step


def peak_mb(step: Callable[[], Any]) -> float | None:
    """The peak memory of a step above what was in use before; None if unknown."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def kilobytes(field: str) -> int:
        (line,) = (x for x in status.read_text().splitlines() if x.startswith(field))
        return int(line.split()[1])

    before = kilobytes("VmRSS")
    reset.write_text("5")  # resets the peak to the current use
    step()
    return (kilobytes("VmHWM") - before) * 1024 / 1e6


def measure(*, pixels: int, batch: int, seconds: float) -> dict[str, Any]:
    """The seconds per call and the peak memory by task and method; versions."""
    tasks = {}
    for task in ("L2-SP", "distillation"):
        names = [*METHODS, *(["SPD"] if task == "L2-SP" else [])]
        steps = {
            name: train_step(name, task, pixels=pixels, batch=batch) for name in names
        }
        times = interleaved(steps, seconds=seconds, least=5)
        tasks[task] = {
            name: {"seconds": times[name].tolist(), "peak_mb": peak_mb(step)}
            for name, step in steps.items()
        }
    versions = f"torch {torch.__version__}, torchjd {version('torchjd')}"
    return {"tasks": tasks, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
