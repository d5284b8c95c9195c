"""Random numbers of a row: they depend on its key alone, never on the pack or the order in which rows are asked."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(key: str) -> torch.Generator:
    """A generator that ``key`` seeds."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def normal(key: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that depend on ``key`` alone."""
    return torch.randn(shape, generator=generator(key))
