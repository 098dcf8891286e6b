"""``conflict_report``: right numbers, from every state that holds a DtnhState."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import G, R

from dtnh_jax import GradientPair, conflict_report, dtnh


def state_after(tx):
    return tx.update(GradientPair(G, R), tx.init(G))[1]


def test_numbers():
    report = conflict_report(state_after(dtnh(granularity="leaf")))
    assert list(report) == ["a", "b"]
    g, r = (np.asarray(x["a"], float) for x in (G, R))
    cosine = g @ r / np.linalg.norm(g) / np.linalg.norm(r)
    np.testing.assert_allclose(report["a"]["cosine"], cosine, 1e-6)
    np.testing.assert_allclose(report["a"]["removed"], -cosine, 1e-6)
    rest = np.linalg.norm(r - (g @ r) / (g @ g) * g)
    np.testing.assert_allclose(report["a"]["pull"], rest / np.linalg.norm(g), 1e-5)
    assert report["a"]["conflict"] is True
    assert report["a"]["rate"] == 1.0
    np.testing.assert_allclose(report["b"]["cosine"], -1, 1e-6)


def test_no_conflict_before_the_first_step():
    values = conflict_report(dtnh().init(G))["global"]
    assert values == dict.fromkeys(values, 0)
    assert list(values) == ["cosine", "conflict", "removed", "pull", "rate"]


def test_inside_a_chain_and_a_train_state():
    train_state = pytest.importorskip("flax.training.train_state")
    tx = optax.chain(dtnh(), optax.sgd(0.1))
    state = train_state.TrainState.create(apply_fn=None, params=G, tx=tx)
    state = state.apply_gradients(grads=GradientPair(G, R))
    assert conflict_report(state.opt_state)["global"]["conflict"]
    assert conflict_report(state) == conflict_report(state.opt_state)


def test_inside_an_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, dtnh(granularity="leaf"), wrt=nnx.Param)
    grads = nnx.state(model, nnx.Param)
    against = jax.tree.map(lambda x: -x, grads)
    optimizer.update(model, grads, regularizer_grads=against)
    report = conflict_report(optimizer.opt_state)
    assert list(report) == ["bias", "kernel"]
    np.testing.assert_allclose(report["kernel"]["cosine"], -1, 1e-6)


def test_several_states_are_distinguished():
    tx = optax.partition({"x": dtnh(), "y": dtnh()}, {"a": "x", "b": "y"})
    report = conflict_report(tx.init(G))
    assert len(report) == 2
    assert all(name.endswith("/global") for name in report)


def test_a_state_without_conflict_is_refused():
    with pytest.raises(ValueError, match="no DtnhState in this tuple"):
        conflict_report(optax.adam(0.1).init(G))


def test_under_jit_it_says_what_to_do():
    with pytest.raises(TypeError, match="not known under"):
        jax.jit(conflict_report)(dtnh().init(G))


def test_a_state_restored_from_bytes_still_knows_its_groups():
    serialization = pytest.importorskip("flax.serialization")
    tx = dtnh(granularity="leaf")
    state = state_after(tx)
    fresh = tx.init(jax.tree.map(jnp.zeros_like, G))
    restored = serialization.from_bytes(fresh, serialization.to_bytes(state))
    assert conflict_report(restored) == conflict_report(state)
