"""The file ``cells.jsonl`` of a study, which can be cut short and resumed.

Its first line says versions, device and settings (``provenance.about``); then every
finished cell is one line, written at once.
"""

import json
from pathlib import Path
from typing import Any

from experiments.errors import InputError
from experiments.provenance import about


def resume(path: Path, settings: dict[str, Any], total: int) -> list[dict[str, Any]]:
    """The records of the cells that are done; starts the file if there is none.

    Args:
      path: the file.
      settings: what determines the cells.
      total: how many cells there are to be.

    Raises:
      InputError: if the file cannot be written, or holds a study with other settings.
    """
    settings = json.loads(json.dumps(settings))  # as it is read from a file
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
    if (there := header.get("config")) != settings:
        raise InputError(
            f"{path} holds a study with {there}, not {settings}; give "
            "another --out, or remove the file"
        )
    return cells


def read(path: Path) -> list[dict[str, Any]]:
    """The header and the finished cells, of a study that may still be running.

    Raises:
      InputError: if a line is damaged, or there is none.
    """
    records = _records(_whole_lines(path), path)
    if not records:
        raise InputError(f"{path} is empty: no study has begun there")
    return records


def _whole_lines(path: Path) -> str:
    """All but a line that is being written, or that was cut off as it was written."""
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
    """Adds one line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
