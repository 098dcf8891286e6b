"""The same two training steps in PyTorch: the plain sum, TorchJD, PCGrad by hand.

Run as a program it times them, and prints the seconds as JSON; its argument is JSON,
the arguments of ``measure``. Nothing else imports PyTorch, whose threads would compete
with those of XLA.
"""

import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torchjd import aggregation, autojac  # pyright: ignore[reportMissingImports]

from benchmarks.programs.models import CLASSES
from benchmarks.programs.steps import ALPHA, WEIGHT
from benchmarks.timing import interleaved

TASKS = ("L2-SP", "last map")
AGGREGATORS = ("UPGrad", "PCGrad", "DualProj", "MGDA")

Tensors = Sequence[Any]
# From loss, penalty and parameters, and with nothing to return: it fills in the
# parameters' gradients.
Method = Callable[[Any, Any, Tensors], None]


class BasicBlock(nn.Module):
    def __init__(self, features_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Identity()
        if stride != 1 or features_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(features_in, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """Images ``[n, 3, h, w]`` to logits ``[n, classes]`` and the last feature map."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks, features = [], 64
        for width in (64, 128, 256, 512):
            blocks.append(BasicBlock(features, width, 1 if width == 64 else 2))
            blocks.append(BasicBlock(width, width, 1))
            features = width
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(features, classes)

    def forward(self, images):
        last = self.stages(self.stem(images))
        return self.head(last.mean(dim=(2, 3))), last


def joint(loss: Any, penalty: Any, params: Tensors) -> None:
    """The plain step: one backward pass of the sum."""
    (loss + penalty).backward()


def jacobian(name: str, chunk: int | None = None) -> Method:
    """TorchJD with one of its aggregators; ``chunk=1``: one backward after the other,
    not both in one under ``torch.vmap``."""
    aggregator = getattr(aggregation, name)()

    def method(loss, penalty, params):
        autojac.backward([loss, penalty], inputs=params, parallel_chunk_size=chunk)
        autojac.jac_to_grad(params, aggregator)

    return method


def without_conflict(a: Tensors, b: Tensors) -> list[Any]:
    """The point nearest to ``a`` that does not oppose ``b``, all arrays as one."""
    product = sum((x * y).sum() for x, y in zip(a, b, strict=True))
    square = sum((y * y).sum() for y in b)
    shift = torch.clamp(product, max=0) / square
    return [x - shift * y for x, y in zip(a, b, strict=True)]


def pcgrad(loss: Any, penalty: Any, params: Tensors) -> None:
    """PCGrad (Yu et al., 2020) by hand: two backward passes, each gradient projected.

    A parameter that the penalty does not depend on has a penalty gradient of zero.
    """
    g, r = (
        torch.autograd.grad(value, params, retain_graph=value is loss, **options)
        for value, options in ((loss, {}), (penalty, {"materialize_grads": True}))
    )
    pairs = zip(params, without_conflict(g, r), without_conflict(r, g), strict=True)
    for param, one, other in pairs:
        param.grad = one + other


def methods() -> dict[str, Method]:
    """By name; the first is the plain step."""
    return {
        "joint loss": joint,
        **{f"TorchJD {name}": jacobian(name) for name in AGGREGATORS},
        "TorchJD UPGrad, sequential": jacobian("UPGrad", chunk=1),
        "PCGrad by hand": pcgrad,
    }


def train_step(
    method: Method, task: str, *, pixels: int, batch: int
) -> Callable[[], Any]:
    """A whole step with its own network and optimizer, to be called without arguments.

    SGD with momentum. The parameters start some way off the pretrained ones. Returns
    the loss, once the device has computed it.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ResNet18(CLASSES).to(device)
    images = torch.randn(batch, 3, pixels, pixels, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    with torch.no_grad():
        target = network.eval()(images)[1]
        pretrained = [param.clone() for param in network.stages.parameters()]
        for param in network.parameters():
            param += 0.01 * torch.randn_like(param)
    network.train()
    params = list(network.parameters())
    optimizer = torch.optim.SGD(params, lr=1e-3, momentum=0.9)

    def penalty(last):
        if task == "last map":
            return WEIGHT * 0.5 * (last - target).square().sum() / batch
        pairs = zip(network.stages.parameters(), pretrained, strict=True)
        return 0.5 * ALPHA * sum((w - w0).square().sum() for w, w0 in pairs)

    def step():
        optimizer.zero_grad()
        logits, last = network(images)
        loss = nn.functional.cross_entropy(logits, labels)
        method(loss, penalty(last), params)
        optimizer.step()
        return loss.item()

    return step


def measure(*, pixels: int, batch: int, seconds: float, least: int) -> dict[str, Any]:
    """Seconds of each call by task and method, and the versions."""
    times = {}
    for task in TASKS:
        steps = {
            name: train_step(method, task, pixels=pixels, batch=batch)
            for name, method in methods().items()
        }
        found = interleaved(steps, seconds=seconds, least=least)
        times[task] = {name: x.tolist() for name, x in found.items()}
    return {
        "times": times,
        "versions": {"torch": torch.__version__, "torchjd": version("torchjd")},
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
