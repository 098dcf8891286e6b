"""With what a result was made: versions, device and settings."""

import os
import platform
from typing import Any

import flax
import jax
import optax

import dtnh_jax


def about(config: dict[str, Any]) -> dict[str, Any]:
    """Versions, device and configuration, as JSON can hold them."""
    device = jax.devices()[0]
    return {
        "versions": {
            "dtnh_jax": dtnh_jax.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "python": platform.python_version(),
        },
        "device": f"{device.platform} ({device.device_kind})",
        "cpu_cores": os.cpu_count(),
        "config": config,
    }


def in_words(header: dict[str, Any]) -> str:
    """Versions and device in one line, from ``about``."""
    versions = ", ".join(f"{name} {text}" for name, text in header["versions"].items())
    return f"{versions}; {header['device']}, {header['cpu_cores']} cores."
