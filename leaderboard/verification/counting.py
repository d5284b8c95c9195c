"""Which challenges count against an entry: those whose recoveries were replayed, since they move what others did."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from leaderboard.bundle.reading import Bundle
from leaderboard.challenge.reading import Challenge, found_for
from leaderboard.verification.certificate import tier_of


class Counting(NamedTuple):
    """The challenges of an entry."""

    counted: list[Challenge]
    waiting: list[str]
    """Of those that were not replayed, what is to be done."""
    refused: list[str]
    """Of those that cannot count, why."""


def counting(bundle: Bundle, challenges: Path) -> Counting:
    """The challenges of an entry below a folder, in order."""
    found, refused = found_for(bundle, challenges)
    counted = [one for one in found if tier_of(one.root, one.said) == "replayed"]
    waiting = [
        f"{one.root} counts once what it brought back was replayed: bench verify --replay {one.root}"
        for one in found
        if one not in counted
    ]
    return Counting(counted, waiting, refused)
