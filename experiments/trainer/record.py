"""The record in every checkpoint: what it is of, and digests of its files.

It is written last, into the folder that Orbax then renames: a checkpoint without it was
cut short. Orbax would find some damages by itself, but not all, and only in the process
that reads that part, while the others wait.
"""

import json
from pathlib import Path
from typing import Any

from experiments import digests
from experiments.errors import InputError

# Raised by hand when what a checkpoint holds, or what it means, changes. Older formats
# are refused: there is none yet.
FORMAT = 1
FILE = "about.json"
# The folder of the arrays, within that of a checkpoint.
ARRAYS = "state"


class Damaged(Exception):
    """A checkpoint that must not be loaded; the message says why."""


def write(checkpoint: Path, about: dict[str, Any]) -> None:
    """Completes a checkpoint whose arrays are written.

    Args:
      checkpoint: its folder.
      about: what has to be the same in the run that loads it, as JSON can hold it:
        ``"settings"``, ``"start"`` and ``"arrays"``, and what is good to know.
    """
    record = {
        "format": FORMAT,
        **about,
        "files": digests.of_folder(checkpoint / ARRAYS),
    }
    sealed = {"record": record, "sha256": digests.of_json(record)}
    (checkpoint / FILE).write_text(json.dumps(sealed, indent=1))


def read(checkpoint: Path) -> dict[str, Any]:
    """The record of a checkpoint that is whole.

    Raises:
      Damaged: if it is not.
    """
    try:
        sealed = json.loads((checkpoint / FILE).read_text())
        record, digest = sealed["record"], sealed["sha256"]
    except FileNotFoundError:
        raise Damaged(f"it has no {FILE}: it was cut short") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"its {FILE} cannot be read") from None
    if digests.of_json(record) != digest:
        raise Damaged(f"its {FILE} does not fit its digest")
    if record["format"] != FORMAT:
        return record  # for `check` to refuse: only this format's files are known
    found = digests.of_folder(checkpoint / ARRAYS)
    for name, digest in record["files"].items():
        if name not in found:
            raise Damaged(f"{ARRAYS}/{name} is missing")
        if found[name] != digest:
            raise Damaged(f"{ARRAYS}/{name} does not fit its digest")
    return record


def check(checkpoint: Path, record: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuses a sound checkpoint that is not of this run.

    Args:
      checkpoint: its folder.
      record: what ``read`` gave.
      expected: what ``write`` would be given now.

    Raises:
      InputError: if it is of another format, configuration, start or network.
    """
    if record["format"] != FORMAT:
        raise InputError(
            f"{checkpoint} has format {record['format']}, and this release reads "
            f"format {FORMAT}: go on with the release that wrote it (its about.json "
            "names the versions), or give another --out"
        )
    for part, what in (
        ("settings", "was written by a run with"),
        ("start", "starts from another file:"),
        ("arrays", "holds other arrays:"),
    ):
        _same(checkpoint, what, record[part], expected[part])


def _same(checkpoint: Path, what: str, found: dict, expected: dict) -> None:
    for name in sorted(found.keys() | expected.keys()):
        there, here = found.get(name, "nothing"), expected.get(name, "nothing")
        if there != here:
            raise InputError(
                f"{checkpoint} {what} {name} = {there}, here it is {here}; give "
                "another --out, or the options of that run"
            )
