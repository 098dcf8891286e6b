"""The report of a grid: ``report.md``, its tally and figures, and ``report.html``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import cells
from experiments.errors import InputError
from experiments.grid import choose, compare, figures, plan, tables, traces
from experiments.grid.page import html
from experiments.methods import METHODS
from experiments.provenance import in_words


def publish(folder: Path) -> list[str]:
    """Writes ``report.md``, two of its tables, its figures and ``report.html``.

    Args:
      folder: holds ``cells.jsonl``, of a whole grid or of a part.

    Returns:
      The lines of the tally, for the terminal.

    Raises:
      InputError: if there is no grid in ``folder``.
    """
    path = folder / "cells.jsonl"
    if not path.is_file():
        raise InputError(f"no grid in {folder}: expected a file cells.jsonl there")
    found = cells.read(path)
    # Of a line that was changed by hand nobody knows what is missing in it.
    try:
        return _publish(folder, *found)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged, or holds another study and not a grid's cells: "
            f"{type(error).__name__}: {error}"
        ) from error


def _publish(folder: Path, header: dict[str, Any], *found: dict[str, Any]) -> list[str]:
    config = header["config"]
    latest = choose.latest(found)
    planned = list(plan.cells(config, choose.rates(latest)))
    records = {key: latest[key] for key in planned if key in latest}
    best = choose.best_trials(records)
    tally = tables.tally(compare.tallies(best, config["methods"]))
    gains = tables.gains(best, config["methods"], config["batch_sizes"])
    title = f"Fine-tuning grid: {len(config['pairs'])} pairs, {config['seeds']} seeds"
    places = list(dict.fromkeys(key.place for key in planned))
    done = sum(key in records for key in planned)
    lines = [
        f"# {title}",
        "",
        f"{done} of {len(planned)} cells are done. {in_words(header)}",
        "",
        *_method_notes(config),
        "",
        "## Tally",
        "",
        "In how many cells (pair and batch size) the 95 % interval of the paired "
        "difference in test accuracy lies above zero, covers it, or lies below.",
        "",
        *tally,
        "",
        "How far each form lies above its regularizer in test accuracy, in points: the "
        "mean over pairs.",
        "",
        *gains,
        "",
        "## Figures",
        "",
        *_figures(folder, records, best, planned),
        "## Every cell",
        "",
        "Test accuracy: mean ± standard error. Differences: mean ± 95 % t-interval, "
        "in points, paired by seed; in how many of the seeds positive; ▲ above, "
        "= equal (the interval covers zero), ▼ below.",
        "",
    ]
    for place in places:
        lines += [f"### {_name(place, records)}", ""]
        lines += [*tables.results(best, records, planned, place), ""]
    failed, missing = tables.failures(records), tables.missing(planned, records)
    lines += ["## Cells without a result", "", *(failed + missing or ["None."]), ""]
    # By themselves too, for a page that quotes them.
    (folder / "tally.md").write_text("\n".join(tally) + "\n")
    (folder / "gains.md").write_text("\n".join(gains) + "\n")
    markdown = "\n".join(lines)
    (folder / "report.md").write_text(markdown)
    (folder / "report.html").write_text(html(folder, title, markdown))
    return tally


def _method_notes(config: dict[str, Any]) -> list[str]:
    recipe = config["recipe"]
    per_class = config["per_class"]
    validation = config["validation_per_class"] or per_class
    return [
        f"- {per_class} training and {validation} validation images a class of the "
        f"target; test accuracy on up to {config['test']} others. Seeds vary images, "
        "head and order, and pretraining where it is done here.",
        f"- {recipe['steps']} steps, {recipe['optimizer']}, constant learning rate.",
        f"- Every method has {len(config['weights'])} trials. Without a regularizer: "
        f"learning rates {_list(config['learning_rates'])}. With one: "
        f"λ = {_list(config['weights'])} at the rate that plain fine-tuning chose for "
        "the same pair and batch size.",
        "- Reported is the trial, and in it the step among ten, of the highest "
        "validation accuracy, the mean over seeds; of equals the first. Test images "
        "play no part in it.",
    ]


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _name(place: plan.Place, records: choose.Records) -> str:
    source, target = figures.names(place, records)
    return f"{source} → {target}, batches of {place.batch_size}"


def _figures(folder, records, best, planned) -> list[str]:
    lines = []
    pairs = list(dict.fromkeys((key.source, key.target) for key in planned))
    for number, pair in enumerate(pairs, start=1):
        here = [key for key in planned if (key.source, key.target) == pair]
        source, target = figures.names(here[0].place, records)
        for kind, draw in (
            ("accuracy", figures.accuracy),
            ("weights", figures.weights),
        ):
            lines += _figure(
                folder, f"{kind}-{number}.png", f"{source} to {target}: {kind}",
                lambda path, draw=draw, here=here: draw(path, records, best, here),
            )  # fmt: skip
    for name in ("l2-sp", "kd", "delta"):
        if any(at[1] == name for at in best):
            lines += _figure(
                folder, f"cosine-{name}.png", f"cosine under {METHODS[name].label}",
                lambda path, name=name: traces.cosine(path, best, planned, name),
            )  # fmt: skip
    return lines + _figure(
        folder, "loss.png", "empirical loss in training",
        lambda path: traces.loss(path, best, planned),
    )  # fmt: skip


def _figure(
    folder: Path, name: str, text: str, draw: Callable[[Path], bool]
) -> list[str]:
    """Draws one figure; nothing to embed where there was nothing to draw."""
    return [f"![{text}]({name})", ""] if draw(folder / name) else []
