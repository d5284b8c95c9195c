"""Orders to train a tiny SAE of a tiny model on random words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmark.model.subject import Subject
from benchmark.sae.training.settings import Collection, Settings
from benchmark.sae.training.sources import text_of
from benchmark.sae.training.whole import Order, folders_in
from benchmark.sites import Site
from tests import tiny

SITE = Site.parse(tiny.SITE)
SETTINGS = Settings(width=48, k=6, visits=64 * 40, batch=64, lr=4e-3)
COLLECTION = Collection(tokens=4000, held_out=300, context=16)

MakeOrder = Callable[..., Order]


@pytest.fixture(scope="package")
def subject() -> Subject:
    return tiny.subject()


@pytest.fixture(scope="package")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paragraphs of random words, some longer than the context."""
    draw = random.Random(0)
    lines = [" ".join(f"w{draw.randrange(3, 58)}" for _ in range(draw.randrange(4, 40))) for _ in range(200)]
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text("\n\n".join(lines))
    return file


@pytest.fixture(scope="package")
def order(subject: Subject, words: Path) -> MakeOrder:
    """An order into a folder; keywords replace its defaults."""

    def made(
        folder: Path,
        sites: Sequence[Site] = (SITE,),
        settings: Settings = SETTINGS,
        collection: Collection = COLLECTION,
        text: str = "",
    ) -> Order:
        found = text_of(subject, [text or str(words)], "text", collection)
        folders = folders_in(folder, sites)
        return Order(subject, found, dict.fromkeys(sites, settings), collection, folders, folder / "training")

    return made
