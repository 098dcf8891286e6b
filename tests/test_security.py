"""Nothing here unpickles, or runs code that a file holds."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# `pickletools` only takes a pickle apart.
UNSAFE = re.compile(
    r"^\s*(?:import|from) (?:_?pickle|cPickle|dill|cloudpickle|joblib|shelve)\b"
    r"|(?<![.\w])(?:eval|exec)\((?!\?)"
    r"|allow_pickle=(?!False)|weights_only=(?!True)",
    re.MULTILINE,
)


def test_no_module_unpickles_or_evaluates():
    for folder in ("dtnh_jax", "experiments", "benchmarks", "examples"):
        files = list((ROOT / folder).rglob("*.py"))
        assert files
        assert not [path for path in files if UNSAFE.search(path.read_text())]
