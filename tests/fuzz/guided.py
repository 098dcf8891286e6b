"""Fuzzes one reader, guided by the branches it takes: ``guided.py NAME [FOLDER]``.

Options of libFuzzer may follow, such as ``-runs=10000``; FOLDER keeps what was found.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
with atheris.instrument_imports(include=["experiments", "readers"]):
    from readers import READERS, feed


def main():
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        (corpus / "valid").write_bytes(READERS[name].valid)
        atheris.Setup([*sys.argv, str(corpus)], lambda data: feed(name, data, path))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
