"""DELTA's channel weights against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import delta, networks
from experiments.finetune import few_shot_target, finetune, from_scratch
from experiments.recipe import Recipe
from experiments.step import cross_entropy


@pytest.mark.slow
def test_weights_follow_from_the_loss_without_each_channel(small, stripes):
    """The gate of a channel against zeroing the parameters that make the channel."""
    params = from_scratch(small, 2)
    members = np.stack([np.arange(0, 60, 5), np.arange(1, 60, 5)]).astype(np.int32)
    weights = delta.channel_weights(small, params, stripes, members)
    for name, values in weights.items():
        assert values.shape == (2, params[name]["bias"].shape[1])
        np.testing.assert_allclose(values.mean(axis=1), 1, rtol=1e-5)

    seed = 1
    images, labels = stripes.images[members[seed]], stripes.labels[members[seed]]
    own = jax.tree.map(lambda x: x[seed], params)
    own["head"] = delta._trained_head(small, own, images, labels)

    def loss(params):
        return cross_entropy(networks.logits(small.build(params), images), labels)

    assert loss(own) < 0.7 * np.log(3)  # the head has learned
    for name in ("conv2", "dense"):
        rises = []
        for channel in range(own[name]["bias"].size):
            without = {k: x.at[..., channel].set(0) for k, x in own[name].items()}
            rises.append(loss({**own, name: without}) - loss(own))
        wanted = len(rises) * jax.nn.softmax(jnp.stack(rises))
        np.testing.assert_allclose(weights[name][seed], wanted, rtol=1e-4)
        assert np.ptp(wanted) > 1e-3


@pytest.mark.slow
def test_weights_of_one_are_kd(small, stripes):
    """The two methods differ by the weights alone."""
    target = few_shot_target(stripes, 4, 2)
    start = from_scratch(small, 2)
    recipe = Recipe(steps=6, batch_size=6, learning_rate=0.05)
    shapes = small.build(jax.tree.map(lambda x: x[0], start)).features(stripes.images)
    ones = {name: jnp.ones((2, x.shape[-1])) for name, x in shapes.items()}

    def losses(name, weights=None):
        cell = finetune(
            small, "nothing", start, name, 1.0, recipe, target, channel_weights=weights
        )
        return cell.trace.loss

    kd = losses("kd")
    np.testing.assert_allclose(losses("delta", ones), kd, rtol=1e-5)
    assert not np.allclose(losses("delta"), kd, rtol=1e-4)
