"""Python's, numpy's and torch's random numbers: put back after somebody drew some, or seeded for them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def generators() -> Iterator[None]:
    """Random numbers go on afterwards as if the block had drawn none."""
    own, arrays, host = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)
        torch.set_rng_state(host)
        if devices:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def seeded(*key: Any) -> Iterator[None]:
    """Random numbers inside are drawn from ``key``, whatever was drawn before; outside they go on undisturbed."""
    number = int.from_bytes(hashlib.sha256("|".join(map(str, key)).encode()).digest()[:8])
    with generators():
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.manual_seed(number % 2**63)
        yield
