"""DTNH: fine-tune with a regularizer that does not hurt the empirical loss.

>>> import optax
>>> from dtnh_jax import dtnh_adamw, l2, l2_sp, mix_regularizers
>>> tx = optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(1e-3))
"""

from dtnh_jax._accumulate import multi_steps
from dtnh_jax._alias import dtnh_adamw, dtnh_sgd
from dtnh_jax._mix import MixState, mix_regularizers
from dtnh_jax._pair import GradientPair
from dtnh_jax._penalties import feature_distillation, l2_sp_penalty, logit_distillation
from dtnh_jax._plot import plot_conflict
from dtnh_jax._projection import project_conflict
from dtnh_jax._regularizers import L2SpState, l2, l2_sp
from dtnh_jax._report import conflict_report, skip_report
from dtnh_jax._skip import NotFinite, SkipState, skip_nonfinite
from dtnh_jax._transform import Conflict, DtnhState, dtnh
from dtnh_jax._value_and_grad import pair_value_and_grad

__version__ = "0.2.0"

__all__ = [
    "Conflict",
    "DtnhState",
    "GradientPair",
    "L2SpState",
    "MixState",
    "NotFinite",
    "SkipState",
    "conflict_report",
    "dtnh",
    "dtnh_adamw",
    "dtnh_sgd",
    "feature_distillation",
    "l2",
    "l2_sp",
    "l2_sp_penalty",
    "logit_distillation",
    "mix_regularizers",
    "multi_steps",
    "pair_value_and_grad",
    "plot_conflict",
    "project_conflict",
    "skip_nonfinite",
    "skip_report",
]
