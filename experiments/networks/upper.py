"""A pretrained network, or its upper part, in the form a training loop needs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.errors import unknown
from experiments.networks.interface import Gates, Params
from experiments.networks.staged import StagedNetwork
from experiments.networks.weights import find, load, stages_of


class FrozenNorm(nnx.Module):
    """BatchNorm with fixed statistics, folded into ``scale`` and ``bias``.

    The statistics of millions of pretraining images are better than an estimate from a
    few batches of the target. This also makes the parameters the only state.
    """

    def __init__(self, norm: nnx.BatchNorm):
        assert norm.scale is not None
        assert norm.bias is not None
        scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + norm.epsilon)
        self.scale = nnx.Param(scale)
        self.bias = nnx.Param(norm.bias[...] - norm.mean[...] * scale)

    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)


class UpperNetwork(nnx.Module):
    """The stages after ``spec.start``, with frozen norms, and a new head."""

    def __init__(self, body: StagedNetwork, spec: "Upper", *, rngs: nnx.Rngs):
        if spec.start is not None:
            body.drop_trunk(spec.start)
        for _, module in list(nnx.iter_modules(body)):
            for name, child in list(vars(module).items()):
                if isinstance(child, nnx.BatchNorm):
                    setattr(module, name, FrozenNorm(child))
        self.head = nnx.Linear(body.head.in_features, spec.classes, rngs=rngs)
        del body.head
        self.body, self.start = body, spec.start

    def features(self, images: jax.Array, *, gates: Gates | None = None):
        """The output of each stage, for images or the cached output of ``start``."""
        whole = self.start is None
        x = self.body.normalize(images) if whole else images.astype(jnp.float32)
        return self.body.features(x, self.start, gates)

    def params(self) -> Params:
        """The parameters of ``"body"`` and ``"head"``."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))


@dataclasses.dataclass(frozen=True)
class Upper:
    """The part of a pretrained network after one of its stages; a ``Spec``.

    Attributes:
      network: key of ``NETWORKS``.
      start: the stage whose outputs are the input, one of ``stages_of(network)``;
        ``None`` for the whole network, which takes uint8 images.
      classes: number of outputs of the head.
      weights: path of the weight file; ``None`` for the ImageNet weights of ``load``.
    """

    network: str
    start: str | None
    classes: int = 1000
    weights: str | None = None

    def __post_init__(self):
        stages = stages_of(self.network)
        if self.start not in (None, *stages):
            raise unknown("stage", str(self.start), stages)

    # Jitted, because compiling the initializers one by one takes seconds.
    @functools.partial(jax.jit, static_argnames="self")
    def init(self, key: jax.Array) -> Params:
        """New parameters, all random."""
        return self._new(nnx.Rngs(key)).params()

    def build(self, params: Params) -> UpperNetwork:
        """The network with these parameters, traced or not, as made by ``init``."""
        graph = nnx.graphdef(nnx.eval_shape(lambda: self._new(nnx.Rngs(0))))
        return nnx.merge(graph, nnx.State(params))

    def pretrained(self) -> Params:
        """The parameters of the weight file, and a random head."""
        body = load(self.network, self.weights)
        return UpperNetwork(body, self, rngs=nnx.Rngs(0)).params()

    def _new(self, rngs: nnx.Rngs) -> UpperNetwork:
        body = find(self.network).build(self.classes, rngs=rngs)
        return UpperNetwork(body, self, rngs=rngs)
