"""The releases that sae_lens knows by name: read from its own list, without importing it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmark.errors import UsageError
from benchmark.registry import suggestion

_LAYOUTS = {
    None: "sae_lens",
    "gemma_2": "gemma_scope",
    "gemma_3": "gemma_scope_2",
    "llama_scope": "llama_scope",
    "llama_scope_r1_distill": "llamascopium",
    "dictionary_learning_1": "dictionary_learning",
    "qwen_scope": "qwen_scope",
}
"""Its name of a way to read them -> ours."""


class Release(NamedTuple):
    """One SAE of a release."""

    repo: str
    path: str
    """Folder or file in the repository."""
    layout: str
    model: str | None
    overrides: Mapping[str, Any]
    """What it corrects in the SAE's configuration."""
    factor: float | None
    """What the SAE's inputs are multiplied with."""
    l0: float | None
    explained_variance: float | None


def find(release: str, sae_id: str) -> Release:
    """What the list says of an SAE.

    Raises:
        UsageError: there is no such release, no such SAE in it, or it is in a layout that is not supported.
    """
    entry = _entry(release)
    kind = entry.get("conversion_func")
    if kind not in _LAYOUTS:
        known = ", ".join(name or "sae_lens" for name in _LAYOUTS)
        raise UsageError(f"the release {release} is read by {kind}, which is no residual SAE; supported are: {known}")
    saes = {str(sae["id"]): sae for sae in entry["saes"]}
    if sae_id not in saes:
        meant = suggestion(sae_id, list(saes))
        raise UsageError(
            f"the release {release} has no SAE {sae_id!r}.{meant} There are {len(saes)}, the first: "
            f"{', '.join(list(saes)[:5])}; name one of them"
        )
    found = saes[sae_id]
    return Release(
        entry["repo_id"],
        str(found["path"]),
        _LAYOUTS[kind],
        entry.get("model"),
        entry.get("config_overrides") or {},
        found.get("norm_scaling_factor"),
        found.get("l0"),
        found.get("variance_explained"),
    )


def _entry(release: str) -> Mapping[str, Any]:
    """A release of the list; only its own part is parsed, for the whole takes a second."""
    text = _list().read_text("utf-8")
    found = re.search(rf"^{re.escape(release)}:\n(?:[ -].*\n|\n)*", text, re.MULTILINE)
    if found is None:
        names = re.findall(r"^([\w.-]+):$", text, re.MULTILINE)
        raise UsageError(
            f"{release!r} is no folder or file, and no release that sae_lens knows.{suggestion(release, names)} There "
            f"are {len(names)}, the first: {', '.join(names[:3])}; give one as release/sae_id, or a folder or file, or "
            "hub:OWNER/NAME@REVISION/PATH"
        )
    return yaml.load(found[0], getattr(yaml, "CSafeLoader", yaml.SafeLoader))[release]


def _list() -> Path:
    spec = importlib.util.find_spec("sae_lens")
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0]) / "pretrained_saes.yaml" if folders else None
    if file is None or not file.is_file():
        raise UsageError("names of releases are in a list of sae_lens, which is not here; pip install sae-lens")
    return file
