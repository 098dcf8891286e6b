"""Reports read from the optimizer state: conflict and skipped steps."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import keystr, tree_flatten_with_path

from dtnh_jax._skip import NotFinite, SkipState
from dtnh_jax._transform import DtnhState


def conflict_report(state: Any) -> dict[str, dict[str, Any]]:
    """Reports how the two gradients related in each group at the last step.

    Args:
      state: any optimizer state that contains a :class:`DtnhState`, such as the
        ``opt_state`` of a Flax ``TrainState`` or ``nnx.Optimizer``.

    Returns:
      A dict keyed by group name, prefixed with the state's path if there are several
      states. Each value is a dict of

      - ``"cosine"``: cosine of the angle between the regularizer gradient and the
        reference, -1 ... 1;
      - ``"conflict"``: whether it is below 0;
      - ``"removed"``: share of the regularizer removed, ``|λr - r'| / |λr|``, by the
        projection and by ``max_ratio``; 1 in the first step with ``reference_decay``,
        unless the regularizer gradient is zero;
      - ``"pull"``: ``|r'| / |u|``, how hard the regularizer pulls compared with the
        optimizer; use it to tune ``weight`` and ``max_ratio``;
      - ``"rate"``: share of the steps so far with a conflict.

      These are Python numbers, or arrays if ``jax.vmap`` mapped over the state.

    Raises:
      ValueError: if ``state`` contains no ``DtnhState``.
      TypeError: under ``jax.jit``, where values are not known.

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
    found = _find_states(DtnhState, state, "conflict_report")
    if not found:
        raise ValueError(
            f"no DtnhState in this {type(state).__name__}: pass the state of dtnh(), "
            "or of a chain that contains it"
        )
    return {
        (f"{keystr(path)}/{name}" if len(found) > 1 else name): values
        for path, dtnh_state in found
        for name, values in _read(dtnh_state).items()
    }


def skip_report(state: Any) -> dict[str, Any]:
    """Reports how many steps were skipped, and which arrays were not finite.

    Args:
      state: any optimizer state that contains one :class:`SkipState`.

    Returns:
      A dict of

      - ``"skipped"``: number of steps skipped so far;
      - ``"in_a_row"``: number of consecutive non-finite steps; if it keeps growing, the
        run is no longer learning;
      - ``"empirical"``, ``"regularizer"``: paths of the leaves of each gradient that
        were not finite at the last non-finite step;
      - ``"updates"``: the same for the updates. If only this list is non-empty, the
        parameters seen by :func:`l2_sp` were not finite, or something overflowed.

      If ``jax.vmap`` mapped over the state, the numbers are arrays, and a path is
      listed if it applies to any run.

    Raises:
      ValueError: unless ``state`` contains exactly one ``SkipState``.
      TypeError: under ``jax.jit``, where values are not known.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import GradientPair, dtnh, skip_nonfinite, skip_report
      >>> g, r = {"w": jnp.ones(2)}, {"w": jnp.array([jnp.inf, 0.0])}
      >>> tx = skip_nonfinite(dtnh())
      >>> _, state = tx.update(GradientPair(g, r), tx.init(g))
      >>> report = skip_report(state)
      >>> report["skipped"], report["empirical"], report["regularizer"]
      (1, [], ['w'])
    """
    found = _find_states(SkipState, state, "skip_report")
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} states of skip_nonfinite in this {type(state).__name__}: "
            "pass a state that contains exactly one"
        )
    ((_, skip_state),) = found
    parts = skip_state.skipped, skip_state.in_a_row, skip_state.last
    skipped, in_a_row, *last = map(np.asarray, jax.tree.leaves(parts))
    report = {"skipped": _plain(skipped), "in_a_row": _plain(in_a_row)}
    names = _names(skip_state.leaf_names)
    for part, broken in zip(NotFinite._fields, last, strict=True):
        report[part] = [name for k, name in enumerate(names) if broken[..., k].any()]
    return report


def _find_states(kind: type, state: Any, report: str) -> list[tuple[Any, Any]]:
    flat, _ = tree_flatten_with_path(state, is_leaf=lambda x: isinstance(x, kind))
    found = [(path, x) for path, x in flat if isinstance(x, kind)]
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(found)):
        raise TypeError(
            f"{report} reads values, which are not known under jax.jit: return the "
            "state from the jitted function, or read its fields there"
        )
    return found


def _read(state: DtnhState) -> dict[str, dict[str, Any]]:
    # Read the leaves, because NNX boxes each array of an optimizer state.
    parts = state.count, state.conflict
    count, cosine, removed, pull, conflicts = map(np.asarray, jax.tree.leaves(parts))
    columns = {
        "cosine": cosine,
        "conflict": cosine < 0,
        "removed": removed,
        "pull": pull,
        "rate": conflicts / np.maximum(count, 1)[..., None],
    }
    return {
        name: {key: _plain(column[..., k]) for key, column in columns.items()}
        for k, name in enumerate(_names(state.group_names))
    }


def _names(encoded: Any) -> list[str]:
    """Decodes the names in a table of bytes; the first run's if it was mapped over."""
    (table,) = map(np.asarray, jax.tree.leaves(encoded))
    first = table[(0,) * (table.ndim - 2)]
    return [bytes(row).rstrip(b"\0").decode() for row in first]


def _plain(x: np.ndarray) -> Any:
    return x.item() if x.ndim == 0 else x
