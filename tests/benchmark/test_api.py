"""What the engine promises to those who add something."""

from __future__ import annotations

import benchmark


def test_everything_that_is_promised_is_there() -> None:
    assert sorted(benchmark.__all__) == benchmark.__all__
    assert all(getattr(benchmark, name) is not None for name in benchmark.__all__)
    assert not hasattr(benchmark, "no_such_name")
