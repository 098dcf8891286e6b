"""Each benchmark runs from end to end in its quick form, and the report after it."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import process, projection, records, scaling
from benchmarks.__main__ import main
from benchmarks.collectives import added, kept
from benchmarks.programs import shapes
from benchmarks.report.page import Report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of the quick form of every benchmark, and the report on them."""
    folder = tmp_path_factory.mktemp("benchmarks") / "results"
    for name in ("projection", "scaling", "collectives"):
        main([name, "--quick", "--out", str(folder)])
    main(["report", "--folder", str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["projection", "scaling", "collectives"])
def test_record(folder, name):
    (record,) = records.read(name, folder)
    assert record.rows
    assert record.machine["jax"]
    assert record.options["quick"] is True
    assert json.loads(json.dumps(dataclasses.asdict(record)))["benchmark"] == name


@pytest.mark.slow
def test_projection_rows(folder):
    (record,) = records.read("projection", folder)
    floors = {row["case"]: row["floor"] for row in record.rows}
    assert floors["tiny, float32, pair: global"] == pytest.approx(5 / 3)
    assert floors["tiny, float32, L2-SP: global"] == pytest.approx(7 / 4)
    for row in record.rows:
        assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        assert row["repetitions"] == 3


def test_words_moved():
    float32, bfloat16 = np.dtype("float32"), np.dtype(jnp.bfloat16)
    assert projection.moved("pair", "sum", float32) == 3
    assert projection.moved("pair", "layer", float32) == 5
    assert projection.moved("pair", "reference_decay", float32) == 8
    # The average is twice as wide as the gradients.
    assert projection.moved("L2-SP", "reference_decay", bfloat16) == 7 + 3 * 2


@pytest.mark.slow
def test_report(folder):
    page = (folder.parent / "README.md").read_text()
    for heading in ("Combining two gradients", "Growth with size", "Communication"):
        assert f"## {heading}" in page
    for figure in ("projection-cpu.png", "scaling-cpu.png"):
        assert f"(results/{figure})" in page
        assert (folder / figure).stat().st_size > 10_000
    assert "| tiny, float32, pair: global |" in (folder / "summary.md").read_text()


@pytest.mark.slow
def test_check_sees_what_is_out_of_date(folder, capsys):
    check = Report(check=True, folder=folder)
    check.run(Console())
    (path,) = folder.glob("projection-*.json")
    text = path.read_text()
    path.write_text(text.replace("tiny, float32", "small, float32"))
    try:
        with pytest.raises(SystemExit, match="1"):
            check.run(Console())
    finally:
        path.write_text(text)
    assert "out of date" in capsys.readouterr().out


def test_committed_page_is_up_to_date():
    Report(check=True, folder=process.ROOT / records.FOLDER).run(Console())


def test_no_result_yet(tmp_path):
    Report(folder=tmp_path / "results").run(Console())
    assert "Not measured yet." in (tmp_path / "README.md").read_text()


def test_exponent_of_a_known_power():
    rows = [
        {"axis": "numbers", "what": "sum", "n": n, "ms": {"median": 3 * n**1.5}}
        for n in (1, 100, 1000, 10_000)
    ]
    rows[0]["ms"]["median"] = 1e9  # more than two decades below the last
    n, cost = scaling.series(rows, "numbers", "sum", "ms")
    assert scaling.exponent(n, cost) == pytest.approx(1.5)
    assert scaling.exponent(n[:1], cost[:1]) is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"all-reduce": (1, 3, 32)}, True),
        ({"all-reduce": (0, 6, 24)}, True),
        ({"all-reduce": (1, 3, 33)}, False),
        ({"all-reduce": (2, 2, 8)}, False),
        ({"all-gather": (1, 1, 4)}, False),
    ],
)
def test_promise(more, expected):
    """Of two groups."""
    names = ("operations", "operands", "bytes")
    before = {"all-reduce": (5, 9, 100), "all-gather": (0, 0, 0)}
    after = {
        kind: tuple(map(sum, zip(counts, more.get(kind, (0, 0, 0)), strict=True)))
        for kind, counts in before.items()
    }
    row = {
        "groups": 2,
        "collectives": {k: dict(zip(names, c, strict=True)) for k, c in after.items()},
        "collectives_without": {
            k: dict(zip(names, c, strict=True)) for k, c in before.items()
        },
    }
    assert set(added(row)) == set(more)
    assert kept(row) is expected


@pytest.mark.parametrize(
    ("network", "millions"),
    [(shapes.resnet50, 25.6), (shapes.vit_b16, 86.6), (shapes.gpt2, 124.4)],
)
def test_shapes(network, millions):
    assert shapes.size(network()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.slow
def test_devices_lie_side_by_side(folder, tmp_path):
    (record,) = records.read("projection", folder)
    gpu = {**record.machine, "platform": "gpu", "device": "NVIDIA X"}
    other = dataclasses.replace(record, machine=gpu)
    found = tmp_path / "results"
    found.mkdir()
    for name, item in (("nvidia-x", other), ("zcpu", record)):
        text = json.dumps(dataclasses.asdict(item))
        (found / f"projection-{name}.json").write_text(text)
    Report(folder=found).run(Console())
    page = (tmp_path / "README.md").read_text()
    lines = [line for line in page.splitlines() if "| tiny, float32, pair |" in line]
    assert [line.split(" | ")[1] for line in lines] == [
        record.machine["cpu"],
        "NVIDIA X",
    ]
    assert (found / "projection-nvidia-x.png").exists()
