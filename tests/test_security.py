"""Nothing here unpickles, or runs code that a file holds."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("dtnh_jax", "experiments", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# `pickletools` only takes a pickle apart.
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}


def offences(source):
    """What in a module would unpickle or run what it reads."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = {name.name.split(".")[0] for name in names} & MODULES
                yield from (f"import {name}" for name in found)
            case ast.ImportFrom(module=str(module)):
                if module.split(".")[0] in MODULES:
                    yield f"from {module} import"
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield f"{name}()"
            case ast.Call(func=ast.Attribute(attr="load"), keywords=keywords):
                for keyword in keywords:
                    constant = getattr(keyword.value, "value", True)
                    if keyword.arg == "allow_pickle" and constant is not False:
                        yield "allow_pickle"
                    if keyword.arg == "weights_only" and constant is not True:
                        yield "weights_only"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, pickle.loads",
        "from pickle import loads",
        "eval(text)",
        "numpy.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=trusted)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_check_finds_what_it_is_to_find(source):
    assert list(offences(source))


def test_no_module_unpickles_or_evaluates():
    assert len(FILES) > 100
    found = {
        str(path.relative_to(ROOT)): what
        for path in FILES
        if (what := list(offences(path.read_text())))
    }
    assert not found
