"""The group that cells are tried on, and a search behind it that not everything survives."""

from __future__ import annotations

import pytest
from torch import Tensor

from benchmark.measure.group import Group
from tests.groups import SEARCH, Rows, cell, clamped_group


@pytest.fixture(scope="package")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return clamped_group(tmp_path_factory.mktemp("clamped"))


@pytest.fixture(scope="package")
def searched(group: Group) -> tuple[Rows, dict[str, Tensor]]:
    found = cell(group, SEARCH)
    assert len({row["recovered"] for row in found[0]}) == 2, "a grid on which all or nothing succeeds shows nothing"
    return found
