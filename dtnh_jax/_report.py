"""What happened: the conflict between the two gradients, read from the state."""

from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from dtnh_jax import _checks
from dtnh_jax._transform import DtnhState


def conflict_report(state: Any) -> dict[str, dict[str, Any]]:
    """Says how the two gradients stood to each other, in each group.

    Args:
      state: a :class:`DtnhState`, or any optimizer state that holds one: that of a
        chain, a Flax ``TrainState``'s or ``nnx.Optimizer``'s ``opt_state``. To be
        called outside of ``jax.jit``.

    Returns:
      A dict keyed by the group's path (``"global"`` where there is one group only),
      and by the path of the state before it where there are several. Each value has

      - ``"cosine"``: of the angle between the regularizer's gradient and the empirical
        one at the last step, -1 ... 1;
      - ``"conflict"``: whether it was below 0;
      - ``"removed"``: the share of the regularizer taken away, ``|λr - r'| / |λr|``;
      - ``"rate"``: the share of all steps so far in which there was a conflict.

      The values are Python numbers or, where the state was mapped over by
      ``jax.vmap``, arrays of the mapped shape.

    Raises:
      ValueError: if there is no ``DtnhState`` in ``state``.
      TypeError: under ``jax.jit``, where no value is known yet.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import GradientPair, conflict_report, dtnh
      >>> g, r = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([-3.0, 4.0])}
      >>> tx = dtnh()
      >>> _, state = tx.update(GradientPair(g, r), tx.init(g))
      >>> report = conflict_report(state)["global"]
      >>> print(f"{report['cosine']:.1f} {report['conflict']} {report['rate']:.0f}")
      -0.6 True 1
    """
    found = _find_states(state)
    if not found:
        raise ValueError(
            f"no DtnhState in this {type(state).__name__}: pass the state of a chain "
            "in which dtnh() is"
        )
    report = {}
    for path, dtnh_state in found:
        prefix = f"{keystr(path)}/" if len(found) > 1 else ""
        for name, values in _read(dtnh_state).items():
            report[prefix + name] = values
    return report


def _find_states(state: Any) -> list[tuple[Any, DtnhState]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda x: isinstance(x, DtnhState)
    )
    return [(path, x) for path, x in flat if isinstance(x, DtnhState)]


def _read(state: DtnhState) -> dict[str, dict[str, Any]]:
    if any(_checks.is_traced(x) for x in jax.tree.leaves(state)):
        raise TypeError(
            "conflict_report reads values, which are not known under jax.jit: return "
            "the state from the jitted function, or read `state.conflict` in it"
        )
    # By leaves: NNX puts a box of its own round each array of an optimizer's state.
    parts = state.count, state.conflict, state.group_names
    count, cosine, removed, conflicts, table = map(np.asarray, jax.tree.leaves(parts))
    names = [
        bytes(row).rstrip(b"\0").decode()
        for row in table.reshape(-1, *table.shape[-2:])[0]
    ]
    columns = {
        "cosine": cosine,
        "conflict": cosine < 0,
        "removed": removed,
        "rate": conflicts / np.maximum(count, 1)[..., None],
    }
    return {
        name: {key: _plain(column[..., k]) for key, column in columns.items()}
        for k, name in enumerate(names)
    }


def _plain(x: np.ndarray) -> Any:
    return x.item() if x.ndim == 0 else x
