"""Where an SAE lies and what is known of it beside its files, and its files read without trust.

A pickle is read by ``torch.load(weights_only=True)`` alone. A tensor that is there and that a layout does not know is
an error: it would be left out of what the SAE computes.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from benchmark.errors import UsageError


@dataclass(frozen=True)
class Place:
    """A folder or file that holds an SAE."""

    path: Path
    name: str
    """Repository and path in it, or the path: some layouts say the layer, the model or ``k`` in their names alone."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Values of its configuration that a registry corrects."""
    factor: float | None = None
    """What its inputs are multiplied with, as a registry says it."""

    def has(self, *files: str) -> bool:
        return all((self.path / file).is_file() for file in files)

    def config(self, file: str) -> Config:
        """A JSON object.

        Raises:
            UsageError: it cannot be read, or is no JSON object.
        """
        path = self.path / file
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON: {error}; copy the SAE again") from error
        if not isinstance(found, dict):
            raise UsageError(f"{path} holds a {type(found).__name__}; give the object that its library writes")
        return Config(str(path), found)

    def tensors(self, file: str = "") -> Tensors:
        """The tensors of a file of it, or of the file that it is.

        Raises:
            UsageError: it is damaged, or holds something else.
        """
        path = self.path / file
        read = {".safetensors": _safetensors, ".npz": _arrays}.get(path.suffix, _pickled)
        return Tensors(str(path), read(path))


class Config:
    """A part of a configuration, read value by value; a value of another type is an error that names it."""

    def __init__(self, where: str, content: Mapping[str, Any]) -> None:
        self.where, self.content = where, content

    def part(self, name: str) -> Config:
        """An object in it; empty, if it is not there or null."""
        found = self.content.get(name)
        if found is not None and not isinstance(found, dict):
            raise self.wrong(name, "an object")
        return Config(f"{self.where}: {name}", found or {})

    def text(self, name: str, default: str | None = None) -> str | None:
        found = self.content.get(name)
        if found is not None and not isinstance(found, str):
            raise self.wrong(name, "text")
        return default if found is None else found

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        found = self.content.get(name)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(name, "true or false")
        return default if found is None else found

    def number(self, name: str) -> float | None:
        found = self.content.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < float("inf"):
            raise self.wrong(name, "a number")
        return float(found)

    def count(self, name: str) -> int | None:
        found = self.number(name)
        if found is not None and (found != int(found) or found < 0):
            raise self.wrong(name, "a whole number")
        return None if found is None else int(found)

    def active(self, name: str) -> int:
        """How many latents of a topk SAE are active at most.

        Raises:
            UsageError: it is not there, 0 or no whole number.
        """
        found = self.count(name)
        if not found:
            raise self.wrong(name, "how many latents are active at most; a topk SAE computes nothing without it")
        return found

    def chosen(self, name: str, known: Mapping[str, Any], default: str | None = None) -> Any:
        """What ``known`` has for the value."""
        found = self.text(name, default)
        if found is None or found.lower() not in known:
            raise self.wrong(name, f"one of {', '.join(known)}")
        return known[found.lower()]

    def refuse(self, name: str, why: str) -> None:
        """That a switch is off.

        Raises:
            UsageError: it is on.
        """
        if self.content.get(name):
            raise UsageError(f"{self.where}: {name} is {self.content[name]!r}: {why}; give another SAE")

    def refuse_transcoder(self, read: str, written: str) -> None:
        """That the place that it writes to, where one is said, is the one that it reads.

        Raises:
            UsageError: it is another.
        """
        there, back = self.text(read), self.text(written)
        if back not in (None, there):
            raise self.wrong(written, f"{there!r}, the same as {read}: a transcoder does not reconstruct what it reads")

    def agrees(self, name: str, found: int, tensor: str) -> None:
        """That a size that is said is the file's.

        Raises:
            UsageError: it is another.
        """
        if name in self.content and self.count(name) != found:
            said = self.content[name]
            raise UsageError(f"{self.where}: {name} is {said!r}, but {tensor} has {found}; copy the SAE again")

    def wrong(self, name: str, wanted: str) -> UsageError:
        return UsageError(f"{self.where}: {name} is {self.content.get(name)!r}, and must be {wanted}")


class Tensors:
    """The tensors of a file; each is taken once, and at the end none may be left."""

    def __init__(self, where: str, held: dict[str, Tensor]) -> None:
        self.where, self._held, self._names = where, dict(held), ", ".join(sorted(held))

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def take(self, name: str) -> Tensor:
        """In fp32.

        Raises:
            UsageError: it is not there, or holds no numbers.
        """
        found = self.maybe(name)
        if found is None:
            raise UsageError(
                f"{self.where} lacks {name}; its tensors are {self._names or 'none'}; copy or convert the SAE again"
            )
        return found

    def maybe(self, name: str) -> Tensor | None:
        """In fp32; None: it is not there."""
        found = self._held.pop(name, None)
        if found is None:
            return None
        if not found.is_floating_point() and name not in _COUNTS:
            raise UsageError(f"{self.where}: {name} holds {found.dtype}, no real numbers; copy or convert it again")
        return found.detach().to("cpu", torch.float32)

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Those whose name begins so, by the rest of it."""
        names = [name for name in self._held if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.take(name) for name in names}

    def finish(self, why: str = "its configuration does not know them") -> None:
        """That everything was taken.

        Raises:
            UsageError: something is left.
        """
        if self._held:
            raise UsageError(
                f"{self.where} also holds {', '.join(sorted(self._held))}: {why}, and without them the SAE would "
                "compute something else; give an SAE whose configuration describes its file"
            )


_COUNTS = ("k", "group_sizes")
"""Tensors that are whole numbers."""


def scalar(tensor: Tensor, where: object, name: str) -> float:
    """The number in a tensor of one.

    Raises:
        UsageError: it holds more or less, or no number.
    """
    if tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
        raise UsageError(f"{where}: {name} is {tuple(tensor.shape)}, and must be one finite number")
    return float(tensor.reshape(()))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, "safetensors", error) from error


def _arrays(path: Path) -> dict[str, Tensor]:
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
            return {name: torch.from_numpy(np.array(opened[name])) for name in opened}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, AttributeError) as error:
        raise _damaged(path, "npz", error) from error


def _pickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _damaged(path, "a file of tensors alone", error) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise UsageError(f"{path} holds something else than tensors by name; give the file that its library writes")
    return {str(name): tensor for name, tensor in found.items()}


def _damaged(path: Path, kind: str, error: Exception) -> UsageError:
    size = path.stat().st_size if path.is_file() else 0
    why = " ".join(str(error).split())[:200]
    return UsageError(f"{path} is damaged: it holds {size} bytes and cannot be read as {kind} ({why}); copy it again")
