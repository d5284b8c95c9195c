"""What this machine brings: versions, device, memory, threads, caches, and whether there is a hub token."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark.cache import cache_dir
from benchmark.hub import is_offline
from benchmark.model.subject import pick_device
from benchmark.run.provenance import environment


def machine(device: str) -> Iterator[tuple[str, str]]:
    """(what, how it is), one by one.

    Raises:
        UsageError: there is no such device.
    """
    from huggingface_hub import constants, get_token

    chosen = pick_device(device)
    found = environment(chosen)
    yield "versions", ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())
    yield "device", f"{chosen} ({found['hardware']['accelerator'] or found['hardware']['machine']})"
    yield "memory", _memory(chosen)
    yield "threads", f"{torch.get_num_threads()} of {os.cpu_count()} processors"
    yield "own cache", _folder(cache_dir())
    yield "hub cache", _folder(Path(constants.HF_HUB_CACHE).expanduser())
    yield "hub", "offline" if is_offline() else "online"
    yield "hub token", "present" if get_token() else "none (gated models and data need one: `hf auth login`)"


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB on the device"
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = (os.sysconf(name) * page / 1e9 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    return f"{free:.1f} GB free of {total:.1f} GB"


def _folder(path: Path) -> str:
    """A folder and the bytes of the files in it; links are another file's."""
    if not path.is_dir():
        return f"{path} (not there yet)"
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return f"{path} ({size / 1e9:.2f} GB)"
