"""What the processes run; not in ``conftest``, of which there are several."""

import jax

from experiments.trainer.command import work


def end_with(config):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    raise SystemExit(work(config))
