"""Numbers as text, the same in every table; ASCII only, so that any terminal and log can show it."""

from __future__ import annotations

from leaderboard.board.schema import Cell
from leaderboard.rows.manifest import Unit
from leaderboard.scores.half_points import Eps50
from leaderboard.scores.ranking import Rank
from leaderboard.scores.values import Estimate, Interval

MISSING = "-"


def words(name: str) -> str:
    """The name of a threat model or a curve as people read it."""
    return name.replace("_", " ")


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


def precise(value: Estimate) -> str:
    """``-.004 (-.010 to .002)``: a small change."""
    given = value.interval
    bounds = f" ({number(given.low, '.3f')} to {number(given.high, '.3f')})" if given else ""
    return number(value.value, ".3f") + bounds


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


def attack_name(cell: Cell) -> str:
    """``recovery``, its threat model and its constraint, one below the other."""
    return "\n".join([cell.attack, cell.threat_model, *([] if cell.constraint == "none" else [cell.constraint])])


def budget_name(unit: Unit) -> str:
    """What a budget is called: a number of tokens, or else a share of a norm."""
    return "tokens" if unit == "tokens" else "eps"
