"""DTNH: fine-tune with a regularizer that does not hurt the empirical loss.

>>> import optax
>>> from dtnh_jax import dtnh
>>> tx = optax.chain(dtnh(), optax.sgd(1e-2))  # updates: a GradientPair
"""

from dtnh_jax._accumulate import multi_steps
from dtnh_jax._alias import dtnh_adamw, dtnh_sgd
from dtnh_jax._pair import GradientPair
from dtnh_jax._penalties import (
    feature_distillation,
    l2_sp_penalty,
    logit_distillation,
)
from dtnh_jax._plot import plot_conflict
from dtnh_jax._projection import project_conflict
from dtnh_jax._regularizers import l2_sp
from dtnh_jax._report import conflict_report, skip_report
from dtnh_jax._skip import NotFinite, SkipState, skip_nonfinite
from dtnh_jax._transform import Conflict, DtnhState, dtnh
from dtnh_jax._value_and_grad import pair_value_and_grad

__version__ = "0.1.0"

__all__ = [
    "Conflict",
    "DtnhState",
    "GradientPair",
    "NotFinite",
    "SkipState",
    "conflict_report",
    "dtnh",
    "dtnh_adamw",
    "dtnh_sgd",
    "feature_distillation",
    "l2_sp",
    "l2_sp_penalty",
    "logit_distillation",
    "multi_steps",
    "pair_value_and_grad",
    "plot_conflict",
    "project_conflict",
    "skip_nonfinite",
    "skip_report",
]
