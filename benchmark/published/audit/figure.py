"""The audit as a figure: a panel a quantity, both protocols as bars. Needs matplotlib (the extra ``plots``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.published.audit.reading import Reading
from benchmark.published.audit.run import Audit
from benchmark.published.audit.table import number

STRICT_COLOUR, PAPER_COLOUR = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito, which colour-blind people tell apart."""
COLUMNS = 4


def draw(found: Audit, folder: Path) -> list[Path]:
    """Write ``audit.svg`` and ``audit.png``: the first quantity of every switch.

    Raises:
        UsageError: matplotlib is missing.
    """
    plt = pyplot()
    first: dict[str, Reading] = {}
    for reading in found.readings:
        if reading.strict is not None and reading.paper is not None:
            first.setdefault(reading.switch, reading)
    chosen = list(first.values())
    if not chosen:
        return []
    lines = -(-len(chosen) // COLUMNS)
    figure, axes = plt.subplots(lines, COLUMNS, figsize=(11, 2.05 * lines + 0.4), squeeze=False, layout="constrained")
    for axis in axes.flat[len(chosen) :]:
        axis.axis("off")
    for axis, reading in zip(axes.flat, chosen, strict=False):
        _panel(axis, reading)
    figure.suptitle(f"The same experiment, measured strictly and as published ({found.model})", fontsize=11)
    paths = [folder / f"audit.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=160)
    plt.close(figure)
    return paths


def pyplot() -> Any:
    """matplotlib's plotting module, drawing to files.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'recoverybench[plots]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "recoverybench", "font.size": 9, "axes.axisbelow": True})
    import matplotlib.pyplot as plt

    return plt


def _panel(axis: Any, reading: Reading) -> None:
    values = [float(reading.strict or 0), float(reading.paper or 0)]
    bars = axis.barh([1, 0], values, color=[STRICT_COLOUR, PAPER_COLOUR], height=0.6)
    wide = min(values) >= 0 and max(values) > 1e4 * max(min(values), 1e-3)
    if wide:
        axis.set_xscale("log")
    axis.bar_label(bars, [number(v) for v in values], padding=3, fontsize=8)
    axis.set_yticks([1, 0], ["strict", "paper"])
    axis.set_title(str(reading.switch), fontsize=9, fontweight="bold", loc="left")
    axis.set_xlabel(_wrapped(f"{reading.quantity} ({reading.unit}), n\u00a0=\u00a0{reading.n}"), fontsize=8)
    axis.margins(x=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", labelsize=7)
    if not wide:
        axis.set_xlim(left=0, right=max(max(values) * 1.3, 1e-9) if max(values) > 0 else 1)
        axis.locator_params(axis="x", nbins=4)


def _wrapped(text: str, width: int = 38) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
