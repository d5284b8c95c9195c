"""The CSV of lm-eval's ``steered`` model, read row by row: nothing in it is guessed, dropped or overwritten.

    loader,action,sparse_model,hookpoint,feature_index,steering_coefficient,head_index,sae_id,description
    sae_lens,add,gemma-scope-2b-pt-res-canonical,layers.20,12082,240.0,,layer_20/width_16k/canonical,dogs

and the form before it (``latent_idx,steering_coefficient,sae_release,sae_id,description``), which adds.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import is_file
from benchmark.sites import Site

SUFFIX = ".csv"
NEEDED = ("feature_index", "steering_coefficient", "sparse_model")
OPTIONAL = ("loader", "action", "hookpoint", "sae_id", "head_index", "description")
BEFORE = {"latent_idx": "feature_index", "sae_release": "sparse_model"}
"""Column of the form before -> today's."""
ACTIONS = {"add": "add", "clamp": "clamp_projection"}
"""lm-eval's word -> what it is."""
LOADERS = ("sae_lens", "sparsify")
_MODULE = re.compile(r"(?:[a-z_]+\.)*(?:layers|h|blocks)\.(0|[1-9][0-9]{0,5})")
"""A decoder layer as transformers calls it; lm-eval steers its output."""


def read_features(path: Path) -> list[dict[str, Any]]:
    """Every row as settings of a steered feature, in their order.

    Raises:
        UsageError: no such file, no text, columns that are missing or unknown, or a row that does not say what to do;
            the line is named.
    """
    if not is_file(path):
        raise UsageError(f"there is no file {str(path)!r}; give the path of lm-eval's steering CSV")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file, strict=True), 1) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV that can be read ({error}); save it as UTF-8 with commas") from error
    if len(lines) < 2:
        raise UsageError(f"{path} has no row below its header; name at least one feature")
    columns = _columns(path, lines[0][1])
    return [_feature(f"{path}, line {n}", path.parent, _row(f"{path}, line {n}", columns, r)) for n, r in lines[1:]]


def _columns(path: Path, header: list[str]) -> list[str]:
    named = [BEFORE.get(name.strip(), name.strip()) for name in header]
    while named and not named[-1]:
        named.pop()  # lm-eval's own example ends in a comma
    known = (*NEEDED, *OPTIONAL)
    unknown = [name or "(without a name)" for name in named if name not in known]
    lacking = [name for name in NEEDED if name not in named]
    twice = sorted({name for name in named if named.count(name) > 1})
    if unknown or lacking or twice:
        wrong = [("unknown", unknown), ("missing", lacking), ("there twice", twice)]
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong if names)
        raise UsageError(f"{path}: columns {said}; lm-eval's are: {', '.join(known)}")
    return named


def _row(where: str, columns: list[str], cells: list[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(columns) :]) or len(cells) < len(columns):
        raise UsageError(f"{where}: {len(cells)} cells under {len(columns)} columns; quote what has a comma in it")
    return dict(zip(columns, (cell.strip() for cell in cells), strict=False))


def _feature(where: str, folder: Path, row: Mapping[str, str]) -> dict[str, Any]:
    if row.get("head_index"):
        raise UsageError(f"{where}: head_index is a place in attention heads; leave it empty to steer the stream")
    action, loader = row.get("action", "add"), row.get("loader", "sae_lens")
    if action not in ACTIONS:
        raise UsageError(f"{where}: the action is {action!r}; write one of {', '.join(ACTIONS)}")
    if loader not in LOADERS:
        raise UsageError(f"{where}: the loader is {loader!r}; write one of {', '.join(LOADERS)}")
    return {
        "site": str(_site(where, row)),
        "latent": _index(where, row["feature_index"]),
        "coefficient": _coefficient(where, row["steering_coefficient"]),
        "action": ACTIONS[action],
        "sae": _sae(where, folder, loader, row),
    }


def _site(where: str, row: Mapping[str, str]) -> Site:
    """The hookpoint, a module or a site; where it is left out, the SAE's id if that is a site."""
    named = row.get("hookpoint") or row.get("sae_id", "")
    module = _MODULE.fullmatch(named)
    if module is not None:
        return Site(int(module[1]), "resid_post")
    try:
        return Site.parse(named)
    except ValueError as error:
        raise UsageError(
            f"{where}: the hookpoint is {row.get('hookpoint', '')!r}; write a decoder layer (layers.N, whose output is"
            " steered) or a site (blocks.N.hook_resid_post)"
        ) from error


def _sae(where: str, folder: Path, loader: str, row: Mapping[str, str]) -> str:
    """The SAE's source; local folders are relative to the CSV."""
    release, inner = row["sparse_model"], row.get("sae_id", "") if loader == "sae_lens" else row.get("hookpoint", "")
    if not release:
        raise UsageError(f"{where}: sparse_model is empty; name the SAE's release, repository or folder")
    local = folder / release / inner
    if local.is_dir():
        return str(local)
    if loader == "sae_lens":
        return f"{release}/{inner}"
    return f"hub:{release}@main/{inner}"  # as lm-eval does, which names no revision


def _index(where: str, text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", text):
        raise UsageError(f"{where}: the feature is {text!r}; write its index, a whole number from 0")
    return int(text)


def _coefficient(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: the steering coefficient is {text!r}; write a finite number")
    return value
