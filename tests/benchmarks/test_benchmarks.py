"""Each benchmark runs from end to end in its quick form, and the report after it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import compile, process, projection, records, scaling
from benchmarks.__main__ import main
from benchmarks.collectives import added, kept
from benchmarks.programs import shapes
from benchmarks.report.page import Report

BENCHMARKS = ("projection", "compile", "scaling", "collectives")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of the quick form of every benchmark, and the report on them."""
    folder = tmp_path_factory.mktemp("benchmarks") / "results"
    # AdamW in Optax needs JAX's own promotion.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for name in BENCHMARKS:
            main([name, "--quick", "--out", str(folder)])
    main(["report", "--folder", str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
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


@pytest.mark.slow
def test_compile_rows(folder):
    (record,) = records.read("compile", folder)
    timed = [row for row in record.rows if compile.is_timed(row)]
    assert [(row["arrays"], row["form"], row["ours"]) for row in timed] == [
        (n, form, ours)
        for n in (8, 16)
        for form, ours in [
            ("pair", "global"),
            ("pair", "layer"),
            ("pair", "leaf"),
            ("steady", "steady rule"),
        ]
    ]
    for row in timed:
        sides = ("ours", "reference")
        whole = {side: row["trace_s"][side] + row["xla_s"][side] for side in sides}
        ratio = whole["ours"] / whole["reference"]
        assert row["compile_ratio"]["median"] == pytest.approx(ratio)  # of one each
        assert 1 < ratio < 100
        assert row["ms"]["ours"]["median"] > 0
    dtypes = {row["network"] for row in record.rows if not compile.is_timed(row)}
    assert dtypes == {"tiny, float32", "tiny, bfloat16"}


def _compile_row(n, ours, reference):
    """Of seconds to trace and to compile."""
    sides = ("ours", "reference")
    return {
        "arrays": n,
        "form": "pair",
        "ours": "layer",
        "reference": "sum",
        "compile_ratio": {"median": 5.0, "low": 4.0, "high": 6.0},
        "trace_s": dict(zip(sides, (ours[0], reference[0]), strict=True)),
        "xla_s": dict(zip(sides, (ours[1], reference[1]), strict=True)),
    }


def test_growth_of_compile_time():
    rows = [
        _compile_row(n, (n**2, 2 * n**2), (0.1 * n, 0.2 * n)) for n in (100, 316, 1000)
    ]
    assert compile.growth([*rows, {"network": "not timed"}]).cells == [
        ["pair, layer", "30000 at 100", "3000000 at 1,000", "2.00"],
        ["pair, sum", "30 at 100", "300 at 1,000", "1.00"],
    ]


def test_arrays_of_a_network_in_layers_of_four():
    arrays = shapes.layers(316)
    assert len(arrays) == 316
    layers = {}
    for name, shape in arrays.items():
        layers.setdefault(name.partition("/")[0], []).append(shape)
    assert {len(x) for x in layers.values()} == {4}
    assert all(
        kernel[-1:] == bias == scale == offset
        for kernel, bias, scale, offset in layers.values()
    )
    assert len(set(arrays.values())) < 20  # as in a network, shapes recur


def test_targets_are_of_pairs():
    float32, bfloat16 = np.dtype("float32"), np.dtype(jnp.bfloat16)
    on_cpu = jax.default_backend() == "cpu"
    assert projection.target("pair", "leaf", float32) == (2.0 if on_cpu else 1.1)
    assert projection.target("pair", "leaf", bfloat16) == (3.0 if on_cpu else None)
    assert projection.target("L2-SP", "leaf", float32) is None
    assert projection.target("pair", "reference_decay", float32) is None


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
    for heading in (
        "Combining two gradients",
        "Compile time and memory",
        "Growth with size",
        "Communication",
    ):
        assert f"## {heading}" in page
    for figure in ("projection-cpu.png", "scaling-cpu.png"):
        assert f"(results/{figure})" in page
        assert (folder / figure).stat().st_size > 10_000
    assert "| 16 | pair, leaf | sum |" in page
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
