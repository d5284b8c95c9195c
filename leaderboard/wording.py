"""Numbers as text, the same in every table; ASCII only, so that any terminal and log can show it."""

from __future__ import annotations

from leaderboard.runs import PlannedCell
from leaderboard.schema import Cell, Rank
from leaderboard.values import Eps50, Estimate, Interval

MISSING = "-"


def number(value: float | None, form: str = ".2f") -> str:
    """A number without its leading zero, ``.46``, or a dash for null."""
    if value is None:
        return MISSING
    text = f"{value:{form}}"
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text


def interval(value: Interval | None) -> str:
    """``.40-.55``, or ``-.10 to .05`` where a bound is negative."""
    if value is None:
        return ""
    if value.low < 0:
        return f"{number(value.low)} to {number(value.high)}"
    return f"{number(value.low)}-{number(value.high)}"


def share(value: Estimate) -> str:
    """``.45 (.40-.55)``."""
    return number(value.value) + (f" ({interval(value.interval)})" if value.interval else "")


def stacked(value: Estimate) -> str:
    """The same on two lines."""
    return f"{number(value.value)}\n{interval(value.interval)}"


def half_point(value: Eps50) -> str:
    """``0.04``, ``> 0.5``, ``<= 0.02`` or a dash."""
    sign = {"above": "> ", "below": "<= ", None: ""}[value.censored]
    return MISSING if value.value is None else f"{sign}{value.value:.3g}"


def rank(value: Rank | None) -> str:
    """``2 (1-3)``."""
    return MISSING if value is None else f"{value.rank}\n({value.low}-{value.high})"


def access(cell: Cell | PlannedCell) -> str:
    """``before_edit/encoder``; the constraint is left out where there is none."""
    return cell.threat_model if cell.constraint == "none" else f"{cell.threat_model}/{cell.constraint}"


def attack_name(cell: Cell) -> str:
    """``recovery``, its threat model and its constraint, one below the other."""
    return "\n".join([cell.attack, cell.threat_model, *([] if cell.constraint == "none" else [cell.constraint])])


def budget_name(cell: Cell) -> str:
    """The unit of a cell's budgets, ``eps`` or ``tokens``."""
    return "tokens" if cell.threat_model == "token_suffix" else "eps"
