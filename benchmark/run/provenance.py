"""Where a run was made: versions, git revision, hardware."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "recoverybench",
    "torch",
    "transformers",
    "sae-lens",
    "lm-eval",
    "datasets",
    "safetensors",
    "pyarrow",
    "numpy",
)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, git state and hardware as JSON values; unknown is null."""
    return {
        "device": str(device),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "git": _git(),
        "hardware": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


MAKE_RESULTS = ("benchmark", "tasks", "defenses", "attacks", "pyproject.toml", "constraints.txt")
"""What decides on results; a defense of one's own that lies elsewhere is handed in with its run."""


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that the code runs from, and whether what makes results has uncommitted changes."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    commit = _run(here, "rev-parse", "HEAD")
    changed = _run(here, "status", "--porcelain", "--", *MAKE_RESULTS)
    return None if commit is None else {"commit": commit, "dirty": bool(changed)}


def _run(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
