"""The page ``report.html``: the results of a run, in one file."""

import base64
import io
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dtnh_jax import plot_conflict
from experiments.cell import Target
from experiments.finetune.compared import Outcome, choose, sentence
from experiments.provenance import in_words
from experiments.statistics import difference

# With more classes, the matrix is unreadable: list only the most frequent confusions.
MOST_CLASSES = 25
MISTAKES = 12
# Side of the pictures on the page, in pixels.
SIDE = 112

CONFLICT = (
    "Cosine: between the regularizer gradient and the average of the previous steps. "
    "Below 0 (dark) they are in conflict, and the rule removes the component that "
    "opposes those steps. Pull: the length of the remaining regularizer, compared with "
    "the optimizer's step."
)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto;
  padding: 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.lead { font-size: 1.1rem; } .note { color: #555; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: .25rem .6rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
tr { border-bottom: 1px solid #ddd; } .chosen { font-weight: 600; }
.matrix td { text-align: center; min-width: 2.2rem; }
img { max-width: 100%; height: auto; }
.figure { min-width: 34rem; }
.mistakes { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
figure { margin: 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: #f4f4f4; padding: .75rem; }
"""


def write(
    out: Path,
    pixels: Target,
    outcomes: Sequence[Outcome],
    about: dict[str, Any],
) -> None:
    """Writes the page.

    Args:
      out: folder of the run.
      pixels: the task, with the images as they were read.
      outcomes: the outcomes of the methods, plain fine-tuning first.
      about: the description saved with the network.
    """
    chosen, classes = choose(outcomes), about["classes"]
    ruled = chosen if chosen.method.rule else choose(outcomes[1:])
    images = pixels.test.shape[1]
    found = sentence(outcomes, images)
    parts = [
        f"<h1>{escape(pixels.dataset.name)}: {len(classes)} classes</h1>",
        f"<p class='lead'>{escape(found[0].upper() + found[1:])}.</p>",
        _accuracies(outcomes, images),
        "<h2>Which classes are confused</h2>",
        f"<p class='note'>Test images as classified by {escape(chosen.words)}, over "
        "all seeds.</p>",
        _confusions(chosen, pixels, classes),
        "<h2>The most confident mistakes</h2>",
        f"<p class='note'>Of the saved network, seed {chosen.seed}.</p>",
        _mistakes(chosen, pixels, classes),
        "<h2>Loss</h2>",
        _picture(_losses(outcomes), "Training loss against the step"),
        "<h2>Conflict and pull by layer</h2>",
        f"<p class='note'>{escape(ruled.words)}. {CONFLICT}</p>",
        _picture(_conflict(ruled), "Cosine and pull by layer against the step"),
        "<h2>How it was made</h2>",
        f"<pre>{escape(about['command'])}</pre>",
        f"<p class='note'>{escape(in_words(about['made_with']))}</p>",
        "<p>Classify images with the saved network:</p>",
        f"<pre>python -m experiments predict {escape(shlex.quote(str(out)))} "
        "IMAGE...</pre>",
    ]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(pixels.dataset.name)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _accuracies(outcomes: Sequence[Outcome], images: int) -> str:
    plain, chosen = outcomes[0], choose(outcomes)
    rows = []
    for one in outcomes:
        gain = ""
        if one is not plain:
            gain = str(difference(one.record["accuracy"], plain.record["accuracy"]))
        cells = [
            escape(one.words) + (" (chosen)" if one is chosen else ""),
            one.accuracy.percent,
            gain,
            one.validation.percent,
        ]
        style = " class='chosen'" if one is chosen else ""
        rows.append(f"<tr{style}>{_cells(cells)}</tr>")
    heads = "method", "test", "minus plain", "validation"
    seeds = len(plain.record["accuracy"])
    return (
        _table(heads, rows) + f"<p class='note'>Accuracy, mean ± standard error over "
        f"{seeds} seeds, on {images} test images each.</p>"
    )


def _table(heads: Sequence[str], rows: Sequence[str], style: str = "") -> str:
    heads = f"<tr>{_cells(heads, 'th')}</tr>"
    return (
        f"<div class='wide'><table class='{style}'>{heads}{''.join(rows)}</table></div>"
    )


def _cells(texts: Sequence[str], tag: str = "td") -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _confusions(chosen: Outcome, pixels: Target, classes: Sequence[str]) -> str:
    labels = pixels.dataset.labels[pixels.test].ravel()
    answers = chosen.answers.argmax(axis=-1).ravel()
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, answers), 1)
    if len(classes) <= MOST_CLASSES:
        return _matrix(counts, classes)
    off = counts * (1 - np.eye(len(classes), dtype=int))
    worst = np.argsort(-off, axis=None)[:MISTAKES]
    pairs = [divmod(int(k), len(classes)) for k in worst]
    rows = [
        f"<tr>{_cells([escape(classes[i]), escape(classes[j]), str(off[i, j])])}</tr>"
        for i, j in pairs
        if off[i, j]
    ]
    return _table(("class", "taken for", "times"), rows)


def _matrix(counts: np.ndarray, classes: Sequence[str]) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = []
    for name, row, share in zip(classes, counts, shares, strict=True):
        cells = "".join(
            f"<td style='background:rgba(0,114,178,{s:.2f});"
            f"color:{'#fff' if s > 0.55 else '#1a1a1a'}'>{n or ''}</td>"
            for n, s in zip(row, share, strict=True)
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return _table(["true \\ answer", *map(escape, classes)], rows, "matrix")


def _mistakes(chosen: Outcome, pixels: Target, classes: Sequence[str]) -> str:
    answers, rows = chosen.answers[chosen.seed], pixels.test[chosen.seed]
    labels = pixels.dataset.labels[rows]
    sure = np.where(answers.argmax(axis=-1) == labels, -1, answers.max(axis=-1))
    worst = [i for i in np.argsort(-sure)[:MISTAKES] if sure[i] >= 0]
    if not worst:
        return "<p>None: every test image is classified correctly.</p>"
    figures = []
    for i in worst:
        image = Image.fromarray(np.asarray(pixels.dataset.images[rows[i]]))
        data = io.BytesIO()
        image.resize((SIDE, SIDE)).save(data, "JPEG", quality=85)
        answer, true = classes[int(answers[i].argmax())], classes[int(labels[i])]
        caption = f"{answer} ({100 * sure[i]:.0f} %), true: {true}"
        figures.append(
            f"<figure><img width={SIDE} height={SIDE} alt='{escape(caption)}' "
            f"src='data:image/jpeg;base64,{_text(data)}'>"
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f"<div class='mistakes'>{''.join(figures)}</div>"


def _losses(outcomes: Sequence[Outcome]) -> Figure:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    panel = figure.subplots()
    styles = ("#000000", "--"), ("#0072B2", "-"), ("#D55E00", "-.")
    for one, (color, line) in zip(outcomes, styles, strict=True):
        curve = one.fitted.trace.loss.mean(axis=0)
        steps = (np.arange(len(curve)) + 0.5) * one.steps / len(curve)
        panel.plot(steps, curve, line, color=color, label=one.words)
    panel.set(xlabel="step", ylabel="training loss, in nats", yscale="log")
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="0.92")
    figure.legend(loc="outside upper center", ncols=1, frameon=False)
    return figure


def _conflict(one: Outcome) -> Figure:
    groups, points = one.record["groups"], len(one.record["cosine"])
    steps = (np.arange(points) + 0.5) * one.steps / points
    short = [name.removeprefix("body/").replace("/layers/", "/") for name in groups]
    figure = Figure(figsize=(7, 2 * (1.2 + 0.22 * len(groups))), layout="constrained")
    for panel, value in zip(figure.subplots(2, 1), ("cosine", "pull"), strict=True):
        reports = [
            {group: {value: number} for group, number in zip(short, row, strict=True)}
            for row in one.record[value]
        ]
        plot_conflict(reports, value=value, steps=steps, ax=panel)
    return figure


def _picture(figure: Figure, text: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return (
        f"<div class='wide'><img class='figure' alt='{escape(text)}' "
        f"src='data:image/png;base64,{_text(data)}'></div>"
    )


def _text(data: io.BytesIO) -> str:
    return base64.b64encode(data.getvalue()).decode()
