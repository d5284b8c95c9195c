"""Whose directory it is: a run takes an empty one, its own, or one that it was killed in, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import RunDirectoryError
from benchmark.files import PART
from benchmark.run.differences import differences

DAMAGED = ".damaged"
"""What the name of a file ends in that was set aside and made again."""
_KEY = r"[0-9a-f]{8,64}"
FILES = re.compile(r"\.lock|plan\.json|run\.json|events\.jsonl|stability\.json|leaderboard\.json|report\.html")
FOLDERS = {
    "cells": re.compile(rf"{_KEY}\.parquet"),
    "fits": re.compile(r".+\.(json|safetensors)"),
    "private": re.compile(rf"{_KEY}\.safetensors"),
    "figures": re.compile(r".+\.(png|pdf|svg)"),
}
"""What a run and its reports leave, by name; drafts and files set aside have a further ending."""


def refuse_foreign(root: Path, plan: Mapping[str, Any]) -> None:
    """Refuse a directory that is not this plan's; nothing in it is changed.

    Raises:
        RunDirectoryError: a file, a directory of something else, of another plan, or with a plan that cannot be read.
    """
    if not root.exists():
        return
    if not root.is_dir():
        raise RunDirectoryError(f"{root} is a file; give another --output-dir")
    if (root / "plan.json").exists():
        return _refuse_other_plan(root / "plan.json", plan)
    strangers = sorted(_strangers(root, plan))
    if strangers:
        raise RunDirectoryError(
            f"{root} is not empty and holds no run of this plan (it has {', '.join(strangers[:3])}); "
            f"give an empty or new --output-dir"
        )


def drafts(root: Path) -> list[Path]:
    """What writing left half done, by our names."""
    return [path for path, ours in _entries(root) if ours and path.name.endswith(PART)]


def _refuse_other_plan(file: Path, plan: Mapping[str, Any]) -> None:
    again = "delete it and repeat the command: it is written again, and finished cells of this plan are kept"
    held = read_json(file, again)
    found, identity = held.get("identity"), plan["identity"]
    if not isinstance(found, str):
        raise RunDirectoryError(f"{file} is no plan of a run; give another --output-dir, or {again}")
    if found != identity:
        differ = differences(held.get("inputs"), plan["inputs"]) or ["the suite, a defense, an attack or the code"]
        raise RunDirectoryError(
            f"{file.parent} holds a run of another plan ({found}, this one is {identity}). What differs: "
            f"{'; '.join(differ)}. Give another --output-dir, or repeat that run's command, with the code that it had, "
            "to resume it. Nothing was changed"
        )


def _strangers(root: Path, plan: Mapping[str, Any]) -> Iterator[str]:
    """What lies in a directory without a plan and cannot be this run's."""
    keys = {cell["key"] for cell in plan["cells"]}
    for path, ours in _entries(root):
        name = path.relative_to(root).as_posix()
        if not ours:
            yield name
        elif path.parent.name == "cells" and path.suffix == ".parquet" and path.stem not in keys:
            yield f"{name} of another plan"
        elif name == "run.json" and _run_of(path) != plan["identity"]:
            yield "run.json of another run"


def _entries(root: Path) -> Iterator[tuple[Path, bool]]:
    """Every file and every unknown folder, and whether its name is one of ours."""
    for path in root.iterdir():
        if path.is_dir() and path.name in FOLDERS:
            for inner in path.iterdir():
                yield inner, not inner.is_dir() and _matches(FOLDERS[path.name], inner.name)
        else:
            yield path, not path.is_dir() and _matches(FILES, path.name)


def _matches(ours: re.Pattern[str], name: str) -> bool:
    return ours.fullmatch(name.removesuffix(PART).removesuffix(DAMAGED)) is not None


def _run_of(file: Path) -> Any:
    try:
        return read_json(file, "").get("run_id")
    except RunDirectoryError:
        return None


def read_json(path: Path, remedy: str = "use another --output-dir") -> dict[str, Any]:
    """A JSON file of a run directory.

    Raises:
        RunDirectoryError: it is damaged, or no object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path} is damaged ({_short(error)}); {remedy}") from error
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} is damaged (it holds a {type(content).__name__}, no object); {remedy}")
    return content


def _short(error: Exception) -> str:
    """What is wrong, on one line and without what the file holds."""
    return str(error).splitlines()[0].partition(" b'")[0] if str(error) else type(error).__name__
