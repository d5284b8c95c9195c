"""What an SAE is trained with; everything that decides its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from benchmark.errors import UsageError

SAVED_AS = ("float32", "float16")
"""How weights may be stored; what is measured is what was stored."""


@dataclass(frozen=True)
class Settings:
    """How one SAE is trained on activations that are there."""

    width: int
    """Latents."""
    k: int = 32
    """Mean number of active latents a token."""
    visits: int = 2_000_000
    """Tokens seen in training, repeats counted."""
    batch: int = 1024
    """Tokens of a step."""
    lr: float = 1e-3
    seed: int = 0
    save_dtype: str = "float32"

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: a number that no training can have.
        """
        for name in ("width", "k", "visits", "batch", "lr"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name} is {getattr(self, name)}; give a number above 0")
        if self.k >= self.width:
            raise UsageError(f"k {self.k} of {self.width} latents leaves none inactive; give a k below the width")
        if self.visits < self.batch:
            raise UsageError(f"{self.visits} token visits are less than one batch of {self.batch}; raise --visits")
        if self.save_dtype not in SAVED_AS:
            raise UsageError(f"an SAE is not stored as {self.save_dtype!r}; there are {', '.join(SAVED_AS)}")

    @property
    def steps(self) -> int:
        """Optimiser steps; the last batch is a whole one."""
        return self.visits // self.batch


@dataclass(frozen=True)
class Collection:
    """Which activations are collected; beside it, the text decides."""

    tokens: int = 500_000
    """Activations to train on, at most; less if the text ends."""
    held_out: int = 8192
    """Tokens of text that is measured on and not trained on, at most; of little text a tenth."""
    context: int = 128
    """Tokens of a pass; longer texts are cut."""
    seed: int = 0

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: a number that cannot be.
        """
        for name, least in (("tokens", 1), ("held_out", 2), ("context", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, not {getattr(self, name)}")


def seed_of(*key: object) -> int:
    """A seed that depends on everything in ``key``."""
    digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
