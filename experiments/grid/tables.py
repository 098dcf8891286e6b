"""The tables of a grid's report, as lines of Markdown."""

from collections.abc import Sequence

from experiments.grid import compare
from experiments.grid.choose import Records, succeeded
from experiments.grid.compare import Best, Difference, Tally, between
from experiments.grid.plan import Key, Place
from experiments.methods import METHODS
from experiments.statistics import estimate

NOT_RUN = "not run"


def _signed(value: float) -> str:
    return format(value, "+.2f").replace("-", "−")


def _gap(gap: Difference | None) -> str:
    if gap is None:
        return "–"
    return (
        f"{_signed(gap.mean)} ± {gap.half_width:.2f}, {gap.wins}/{gap.seeds} "
        f"{ {'above': '▲', 'equal': '=', 'below': '▼'}[gap.verdict] }"
    )


def results(
    best: Best, records: Records, planned: Sequence[Key], place: Place
) -> list[str]:
    """One line a method at one place: accuracy of the chosen trial, and differences."""
    lines = [
        "| method | chosen | step | accuracy % | to its regularizer | to plain |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    here = [key for key in planned if key.place == place]
    for name in dict.fromkeys(key.method for key in here):
        keys = [key for key in here if key.method == name]
        record = best.get((place, name))
        if record is None:
            texts = ["–", "–", _why_not(records, keys), "–", "–"]
        else:
            value = estimate(record["accuracy"])
            done = sum(key in records for key in keys)
            baseline = METHODS[name].baseline
            texts = [
                _trial(record) + ("" if done == len(keys) else f" ({done} of "
                f"{len(keys)} trials)"),
                str(record["step"]),
                f"{value.mean:.2f} ± {value.standard_error:.2f}",
                _gap(between(best, place, name, baseline) if baseline else None),
                _gap(between(best, place, name, "plain") if name != "plain" else None),
            ]  # fmt: skip
        lines.append(f"| {METHODS[name].label} | " + " | ".join(texts) + " |")
    return lines


def _trial(record) -> str:
    if record["weight"] is None:
        return f"rate {record['learning_rate']:g}"
    return f"λ = {record['weight']:g}"


def _why_not(records: Records, keys: Sequence[Key]) -> str:
    found = [records[key] for key in keys if key in records]
    if len(found) < len(keys):
        return NOT_RUN
    diverged = all("diverged" in record for record in found)
    return "all trials diverged" if diverged else "failed"


def tally(tallies: Sequence[Tally]) -> list[str]:
    """In how many places each method is above, equal to and below another."""
    lines = [
        "| method | against | above | equal | below | compared |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for one in tallies:
        counts = [one.counts[verdict] for verdict in ("above", "equal", "below")]
        lines.append(
            f"| {METHODS[one.name].label} | {METHODS[one.other].label} | "
            + " | ".join(map(str, (*counts, sum(counts))))
            + " |"
        )
    return lines


def gains(best: Best, methods: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """How much each form gains over its regularizer, by batch size."""
    lines = [
        "| method | against | "
        + " | ".join(f"batches of {size}" for size in sizes)
        + " |",
        "|---|---|" + "--:|" * len(sizes),
    ]
    for name in methods:
        found = compare.gains(best, name)
        if found:
            texts = (_signed(found[x]) if x in found else "–" for x in sizes)
            baseline = METHODS[METHODS[name].baseline or name].label
            lines.append(
                f"| {METHODS[name].label} | {baseline} | {' | '.join(texts)} |"
            )
    return lines


def failures(records: Records) -> list[str]:
    """One line a cell that did not succeed."""
    return [
        f"- {key.source} → {key.target}, batches of {key.batch_size}: "
        + " ".join(record.get("diverged", record.get("error", "")).split())
        for key, record in records.items()
        if not succeeded(record)
    ]


def missing(planned: Sequence[Key], records: Records) -> list[str]:
    """One line a place, with how many of its cells are not run."""
    lines = []
    for place in dict.fromkeys(key.place for key in planned):
        keys = [key for key in planned if key.place == place]
        absent = sum(key not in records for key in keys)
        if absent:
            lines.append(
                f"- {place.source} → {place.target}, batches of {place.batch_size}: "
                f"{absent} of {len(keys)} cells {NOT_RUN}"
            )
    return lines
