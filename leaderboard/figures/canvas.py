"""What all figures have in common: the library, and how a panel looks."""

from __future__ import annotations

from typing import Any

from benchmark.errors import UsageError


def pyplot() -> Any:
    """``matplotlib.pyplot``, which draws into files.

    Raises:
        UsageError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'recoverybench[plots]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "recoverybench", "font.size": 9})
    import matplotlib.pyplot as plt

    return plt


def plain(axis: Any) -> None:
    """A panel with a quiet grid."""
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def of_shares(axis: Any) -> None:
    """The same, of shares."""
    axis.set_ylim(-0.03, 1.03)
    plain(axis)


def plain_ticks(axis: Any, budgets: list[float]) -> None:
    """Budgets below a panel as they are written, as many as there is room for."""
    step = -(-len(budgets) // 6) or 1
    axis.set_xticks(budgets[::step], [f"{b:g}" for b in budgets[::step]], fontsize=8)
    axis.minorticks_off()
