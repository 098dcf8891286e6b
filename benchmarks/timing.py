"""Times jitted functions side by side, and says on what."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import dtnh_jax


def interleaved(
    functions: dict[str, Callable[..., Any]], *args: Any, repetitions: int
) -> dict[str, np.ndarray]:
    """Seconds of each call, ``[repetitions]`` for each function, in turn.

    A slow moment of the machine then falls on all of them alike, so that their ratios
    can be trusted further than their times.
    """
    compiled = {
        name: jax.jit(f).lower(*args).compile() for name, f in functions.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*args))
            seconds[name].append(time.perf_counter() - began)
    return {name: np.array(times) for name, times in seconds.items()}


def machine() -> dict[str, Any]:
    """Versions and device."""
    device = jax.devices()[0]
    return {
        "dtnh_jax": dtnh_jax.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
        "cpu_cores": os.cpu_count(),
    }
