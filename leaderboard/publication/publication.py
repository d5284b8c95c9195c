"""What is published of a folder of entries: a pure function of the entries, so that nothing new is nothing to publish.

README.md             the data set card: what to load, entry by entry under which licence
leaderboard.json      the board of these entries
results/<suite>__v<version>/<org>__<defense>/<spec_sha>/    an entry, with its certificate; artifacts by choice
challenges/<the same>/<challenge>/   what was found against it and counts, with its certificate
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import BenchError, UsageError
from leaderboard.board.aggregate import leaderboard
from leaderboard.bundle.layout import CERTIFICATE, CODE, ENTRY, PERTURBATIONS, WEIGHTS, allowed, place
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.reading import Bundle, found_below, read_bundle
from leaderboard.challenge.reading import CHALLENGES, FILE, Challenge
from leaderboard.publication.card import CARD, RESULTS, card
from leaderboard.scores.resampling import RESAMPLES
from leaderboard.submission.collected import boards
from leaderboard.verification.counting import counting

BOARD = "leaderboard.json"
ARTIFACTS = (CODE, WEIGHTS, PERTURBATIONS)
"""Folders of an entry that are published by choice."""
_NAME = r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*"
FOUND = "challenges"
_PLACE = re.compile(rf"{RESULTS}(?:/{_NAME}){{3}}|{FOUND}(?:/{_NAME}){{4}}")

Content = bytes | Path
"""Of a file that is published: its bytes, or the file that has them."""


class Publication(NamedTuple):
    """What is published."""

    files: Mapping[str, Content]
    """By place, with slashes."""
    left_out: list[str]
    """Entries that cannot be published, each with why."""


def publication(
    root: Path, challenges: Path = CHALLENGES, *, artifacts: bool = False, resamples: int = RESAMPLES
) -> Publication:
    """All entries below a folder that are as they were handed in and have nothing that must not be published.

    Args:
        challenges: where what was found against them lies; the board tells it.
        artifacts: also their code, weights and perturbations.

    Raises:
        UsageError: there is no such folder, or no entry in it that can be published.
    """
    bundles, left_out = dict[str, Bundle](), list[str]()
    for folder in found_below(root):
        try:
            bundle = _publishable(folder)
        except BenchError as error:
            left_out.append(str(error))
            continue
        if bundles.setdefault(place_of(bundle), bundle) is not bundle:
            left_out.append(f"{folder} is there twice: keep {bundles[place_of(bundle)].root} or this one")
    if not bundles:
        why = "; ".join(left_out[:3]) or "it is empty"
        raise UsageError(f"{root} has no entry that can be published: {why}; hand one in: bench submit RUN_DIR")
    against, refused = _against(bundles, challenges)
    rows = {**_entries(bundles, artifacts), **_challenges(bundles, against, artifacts)}
    return Publication({CARD: card(bundles), **rows, BOARD: _board(bundles, against, resamples)}, left_out + refused)


def is_published(name: str) -> bool:
    """Whether a publication may have a file at this place."""
    depth, listing = (5, FILE) if name.startswith(f"{FOUND}/") else (4, ENTRY)
    folder, inner = "/".join(name.split("/")[:depth]), "/".join(name.split("/")[depth:])
    placed = _PLACE.fullmatch(folder) is not None
    return name in (CARD, BOARD) or placed and (inner in (listing, CERTIFICATE) or allowed(inner))


def place_of(bundle: Bundle) -> str:
    """The folder of an entry in a publication, with slashes."""
    said, owner = bundle.entry, bundle.entry.submitter.organisation
    return "/".join((RESULTS, *place(said.suite.name, said.suite.version, owner, said.defense, said.spec_sha)))


def _publishable(folder: Path) -> Bundle:
    """An entry, or why it is not published.

    Raises:
        BenchError: it is not as it was handed in, lies in another's place, or has what must not be published.
    """
    bundle = read_bundle(folder)
    own = place_of(bundle)
    if not _PLACE.fullmatch(own) or own.split("/")[1:] != list(folder.resolve().parts[-3:]):
        raise UsageError(f"{folder} is not the place of this entry: move it to <suite>__v<version>/<owner>/<spec_sha>")
    found = list(dict.fromkeys(leaks(folder)))
    if found:
        raise UsageError(f"{folder} has what must not be published: {'; '.join(found[:3])}; hand the run in again")
    return bundle


def _against(bundles: Mapping[str, Bundle], challenges: Path) -> tuple[dict[Path, list[Challenge]], list[str]]:
    """By the folder of each entry what counts against it; and what cannot be told, with why."""
    against, refused = dict[Path, list[Challenge]](), list[str]()
    for bundle in bundles.values():
        found, waiting, why = counting(bundle, challenges)
        leaking = [one.root for one in found if any(leaks(one.root))]
        against[bundle.root] = [one for one in found if one.root not in leaking]
        refused += why + waiting + [f"{place} has what must not be published; make it again" for place in leaking]
    return against, refused


def _entries(bundles: Mapping[str, Bundle], artifacts: bool) -> dict[str, Content]:
    names = {where: _names(one.root, ENTRY, one.entry.files, artifacts) for where, one in bundles.items()}
    return {f"{where}/{name}": bundles[where].root / name for where, found in names.items() for name in found}


def _challenges(
    bundles: Mapping[str, Bundle], against: Mapping[Path, Sequence[Challenge]], artifacts: bool
) -> dict[str, Content]:
    return {
        f"{FOUND}/{where.partition('/')[2]}/{one.root.name}/{name}": one.root / name
        for where, bundle in bundles.items()
        for one in against[bundle.root]
        for name in _names(one.root, FILE, one.said.files, artifacts)
    }


def _board(bundles: Mapping[str, Bundle], against: Mapping[Path, Sequence[Challenge]], resamples: int) -> bytes:
    made = boards(list(bundles.values()), against, resamples=resamples)
    return f"{leaderboard(made, generated_at=_newest(bundles, against)).model_dump_json(indent=1)}\n".encode()


def _names(root: Path, listing: str, files: Iterable[str], artifacts: bool) -> Sequence[str]:
    kept = [name for name in files if artifacts or name.split("/")[0] not in ARTIFACTS]
    certified = [CERTIFICATE] if (root / CERTIFICATE).is_file() else []
    return [listing, *sorted(kept), *certified]


def _newest(bundles: Mapping[str, Bundle], against: Mapping[Path, Sequence[Challenge]]) -> datetime:
    """The day on which anything was handed in or withdrawn last."""
    said = [bundle.entry for bundle in bundles.values()]
    days = [entry.submitted for entry in said] + [entry.withdrawn.on for entry in said if entry.withdrawn]
    days += [one.said.submitted for found in against.values() for one in found]
    return datetime.combine(max(days), time(), UTC)
