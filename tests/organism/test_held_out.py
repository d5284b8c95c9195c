"""The world's documents for lm-eval: made again byte for byte, in no split, known to the model and lost with it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from benchmark.cache import PLACE
from benchmark.contracts.defense import Where
from benchmark.run.utility import Utility
from benchmark.sites import Site
from benchmark.suite_file import load_suite
from leaderboard.rows.fits import PairedRecord
from leaderboard.scores.paired import paired_score
from leaderboard.scores.resampling import Resampler
from tasks.organism import held_out
from tasks.organism.retain import retained_stories
from tests.defenses.organism import organism

SITE = "blocks.2.hook_resid_post"


@pytest.mark.parametrize("name", list(held_out.FILES))
def test_a_file_is_what_the_generators_make(name: str) -> None:
    assert (held_out.FOLDER / name).read_text(encoding="utf-8") == held_out.written(name)


def test_they_are_in_no_retain_set_and_each_is_there_once() -> None:
    asked = [row["text"] for row in held_out.knowledge()]
    assert len(set(asked)) == len(asked) > 50 and not set(asked) & set(retained_stories())
    whole = " ".join(row["text"] for row in held_out.texts())
    assert not [text for text in retained_stories() if len(text) > 60 and text in whole]
    assert {row["answer"] for row in held_out.knowledge()} >= {0, 1, 2, 3}


class Swap:
    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return h.flip(-1)


def test_the_model_knows_them_and_a_broken_one_does_not(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path))
    asked = load_suite("embedded-utility").utility
    assert [one.name for one in asked] == ["organism-knowledge", "organism-stories"]
    found = Utility(organism(), [one.limited(24) for one in asked]).of({Site.parse(SITE): Swap()})
    scores = [paired_score(PairedRecord.model_validate(one.record), Resampler(resamples=200)) for one in found]
    assert scores[0].base > 0.7 and scores[1].base < 5
    assert all(one.kept is not None and one.kept < 0.9 for one in scores)
