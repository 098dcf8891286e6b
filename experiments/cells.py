"""The file ``cells.jsonl`` of a study, from which an interrupted study resumes.

The first line has versions, device and settings (``provenance.about``). Each later line
is a cell, written as soon as it is finished, with the commit of the code that ran it.
"""

import json
from pathlib import Path
from typing import Any

from experiments.errors import InputError
from experiments.provenance import about


def resume(path: Path, settings: dict[str, Any], total: int) -> list[dict[str, Any]]:
    """Returns the records of the finished cells. Starts the file if there is none.

    Args:
      path: the file.
      settings: the settings that determine the cells.
      total: the planned number of cells.

    Raises:
      InputError: if the file cannot be written, or holds a study with other settings.
    """
    settings = json.loads(json.dumps(settings))  # as read back from a file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_lines(path) if path.exists() else ""
        with path.open("ab") as file:
            file.truncate(len(whole.encode()))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    found = _records(whole, path)
    if not found:
        append(path, {"record": "about", **about(settings), "cells": total})
        return []
    header, *cells = found
    there = header.get("config", {})
    if changed := [k for k in {**there, **settings} if there.get(k) != settings.get(k)]:
        raise InputError(
            f"{path} holds a study with other {', '.join(changed)}; pass another "
            "--out, or remove the file"
        )
    return cells


def read(path: Path) -> list[dict[str, Any]]:
    """The header and the finished cells of a study, which may still be running.

    Raises:
      InputError: if a line is damaged, or the file has none.
    """
    records = _records(_whole_lines(path), path)
    if not records:
        raise InputError(f"{path} is empty: no study has begun there")
    return records


def _whole_lines(path: Path) -> str:
    """All complete lines: the last one may be unfinished, or have been cut off."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return text[: text.rfind("\n") + 1]


def _records(text: str, path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} of {path} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"line {number} of {path} is not a JSON object: {line}")
        records.append(record)
    return records


def append(path: Path, record: dict[str, Any]) -> None:
    """Appends one line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
