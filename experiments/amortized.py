"""What `amortized_value_and_grad` costs in promise and accuracy, on the demo's task.

``python -m experiments amortized`` takes some minutes. Distillation from MNIST, as it
is and with random labels, to digits, as in the demo; with one group; the weights of
loss and penalty measured in every k-th step. A step breaks the promise where ``<g, d>``
falls below ``|g|^2`` by more than rounding.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.markdown import Markdown

from dtnh_jax import amortized_value_and_grad, pair_value_and_grad
from experiments import networks
from experiments.data import load
from experiments.finetune import Target, few_shot_target, finetune, start_and_order
from experiments.methods import FEATURE_SCALE
from experiments.networks import Architecture
from experiments.pretrain import pretrained_on
from experiments.progress import Reporter
from experiments.provenance import about, in_words
from experiments.recipe import OPTIMIZERS, Recipe, batch_order
from experiments.statistics import estimate
from experiments.step import loss_and_distance
from experiments.study import Study
from experiments.train import accuracy

ROUNDING = 1e-4  # relative, of <g, d> and |g|^2


@dataclasses.dataclass(frozen=True)
class AmortizedStudy(Study):
    """Distill with the weights of the two losses measured in every k-th step."""

    out: Path = Path("runs/amortized")
    every: tuple[int, ...] = (1, 4, 16, 64)
    """Steps from one measurement to the next, k; the first is compared with."""
    weights: tuple[float, ...] = (0.1, 1.0)
    """Weights λ of the distillation."""
    decay: float = 0.9
    """Of the moving average of what was measured, in the rows that have one."""


def run(config: AmortizedStudy, console: Console) -> None:
    """Runs the study, prints the table and writes the files."""
    config.check()
    reporter = Reporter(console, config.quiet)
    architecture, recipe = Architecture(), Recipe(config.steps, batch_size=10)
    target = few_shot_target(
        load("digits", architecture.side), config.per_class, config.seeds
    )
    rows = []
    for name in ("mnist", "mnist:random-labels"):
        source = load(name, architecture.side)
        body = pretrained_on(
            source, config.epochs, config.seeds, config.cache, reporter.warn
        ).params
        plain = finetune(architecture, name, body, "plain", None, recipe, target)
        rows.append(_row(source.name, "plain fine-tuning", plain.accuracy, None))
        for weight in config.weights:
            joint = finetune(architecture, name, body, "kd", weight, recipe, target)
            rows.append(_row(source.name, "KD", joint.accuracy, None, weight))
            first = None
            for every, decay in _forms(config):
                title = f"{source.name}, λ = {weight:g}, every {every}"
                with reporter.task(title, 1):
                    right, broken = _train(
                        architecture, recipe, body, target, weight, every, decay
                    )
                first = right if first is None else first
                form = f"k = {every}" + (", average" if decay else "")
                rows.append(
                    _row(source.name, form, right, right - first, weight, broken)
                )
    settings = dataclasses.asdict(config)
    header = about({k: v for k, v in settings.items() if k not in ("out", "cache")})
    config.out.mkdir(parents=True, exist_ok=True)
    text = _table(rows, header)
    (config.out / "table.md").write_text(text)
    (config.out / "results.json").write_text(
        json.dumps({**header, "rows": rows}, indent=1) + "\n"
    )
    console.print(Markdown(text))


def _forms(config: AmortizedStudy) -> list[tuple[int, float | None]]:
    averaged = [(k, config.decay) for k in config.every if k > 1]
    return [*((k, None) for k in config.every), *averaged]


def _train(
    architecture: networks.Spec,
    recipe: Recipe,
    body: networks.Params,
    target: Target,
    weight: float,
    every: int,
    decay: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out accuracy, and the share of steps that broke the promise; ``[S]`` each.

    A loop of its own beside ``train.fit``: here it is the gradient that is studied.
    """
    architecture, start, keys = start_and_order(architecture, body, target)
    images = jnp.asarray(target.dataset.images)
    labels = jnp.asarray(target.dataset.labels)

    def one_seed(start, key, members):
        teacher = architecture.build(start)

        def losses(params, batch):
            seen = images[batch]
            network = architecture.build(params)
            return loss_and_distance(
                network, teacher.features(seen), seen, labels[batch]
            )

        amortized = amortized_value_and_grad(
            losses, refresh_every=every, weight=FEATURE_SCALE * weight, decay=decay
        )
        tx = optax.chain(
            OPTIMIZERS[recipe.optimizer](),
            optax.scale_by_learning_rate(recipe.learning_rate),
        )

        def step(carry, batch):
            params, weights, state = carry
            (_, direction), weights = amortized.value_and_grad(weights, params, batch)
            # Only to look at: this second evaluation is what a user is spared.
            g = pair_value_and_grad(losses)(params, batch)[1].empirical
            slope, least = _vdot(g, direction), _vdot(g, g)
            updates, state = tx.update(direction, state)
            params = optax.apply_updates(params, updates)
            return (params, weights, state), slope < least * (1 - ROUNDING)

        begin = start, amortized.init(), tx.init(start)
        order = batch_order(key, members, recipe)
        (params, *_), broken = jax.lax.scan(step, begin, order)
        return params, broken.mean()

    params, broken = jax.jit(jax.vmap(one_seed))(start, keys, jnp.asarray(target.train))
    return accuracy(architecture, params, target.dataset, target.test), broken


def _vdot(left: networks.Params, right: networks.Params) -> jax.Array:
    return jnp.real(optax.tree.vdot(left, right))


def _row(
    source: str,
    form: str,
    right: np.ndarray,
    difference: np.ndarray | None,
    weight: float | None = None,
    broken: np.ndarray | None = None,
) -> dict[str, Any]:
    def of(values):
        return None if values is None else dataclasses.asdict(estimate(100 * values))

    return {
        "source": source,
        "form": form,
        "weight": weight,
        "accuracy": of(right),
        "difference": of(difference),
        "broken": of(broken),
    }


def _table(rows: list[dict[str, Any]], header: dict[str, Any]) -> str:
    lines = [
        "| source | λ | gradient | accuracy % | beside k = 1 | steps below G2, % |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in rows:
        numbers = (
            _text(row["accuracy"], ".2f"),
            _text(row["difference"], "+.2f"),
            _text(row["broken"], ".1f"),
        )
        weight = "–" if row["weight"] is None else f"{row['weight']:g}"
        cells = (row["source"], weight, row["form"], *numbers)
        lines.append("| " + " | ".join(cells) + " |")
    config = header["config"]
    decay = config["decay"]
    notes = (
        f"Mean ± standard error over {config['seeds']} seeds; differences are paired "
        f"by seed. {config['steps']} steps of 10 images, SGD with momentum 0.9. "
        f"Average: a moving average of the measured weights, with decay {decay:g}.",
        in_words(header),
    )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _text(value: dict[str, float] | None, form: str) -> str:
    if value is None:
        return "–"
    mean = format(value["mean"], form).replace("-", "−")
    return f"{mean} ± {value['standard_error']:{form.lstrip('+')}}"
