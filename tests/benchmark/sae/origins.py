"""Modules of the libraries that layouts come from, without what else their packages import (trainers, plotting)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest


def module(package: str, name: str) -> Any:
    """``package.name``, imported past the package's own ``__init__``; the test is skipped where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/origins.txt")
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == package}
    bare = ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations)
    for held in before:
        del sys.modules[held]
    sys.modules[package] = bare
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"{package}.{name}")
    finally:
        for held in [n for n in sys.modules if n.split(".")[0] == package]:
            del sys.modules[held]
        sys.modules.update(before)
