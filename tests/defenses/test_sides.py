"""Writing before and after an edit: the same where the clamp does not see the write, else not (METHOD section 4)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.model.edits import by_boundary
from benchmark.model.pack import make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.tail import TailPass
from benchmark.search.constraint import EncoderNullSpace
from defenses.clamp_edit import ClampEdit
from tests.defenses import world as toy
from tests.defenses.world import HERE
from tests.tiny import D_MODEL, ToyTask


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made, dictionary = toy.world(tmp_path_factory.mktemp("sae"))
    pack = max(make_packs(made, ToyTask(), ToyTask().examples("test"), 8), key=len)
    delta = 3 * torch.randn(len(pack), 1, 1, D_MODEL, generator=torch.Generator().manual_seed(0))
    return made, dictionary, pack, delta


def reads(world: Any, edit: Any, delta: Tensor, kind: Any = FullPass) -> tuple[Tensor, Tensor]:
    """Readouts with ``delta`` written before and after the edit."""
    made, _, pack, _ = world
    rows, edits = torch.arange(len(pack)), by_boundary(made, {HERE: edit})
    sides = (Writes((HERE.boundary,), pack.readout, 1, after) for after in (False, True))
    before, after = (kind(made, pack, edits, side)(delta, rows).read for side in sides)
    return before, after


@pytest.mark.parametrize("kind", [FullPass, TailPass])
def test_before_and_after_agree_for_a_write_that_the_clamp_does_not_see_and_only_then(world: Any, kind: Any) -> None:
    _, dictionary, _, delta = world
    features = dictionary.features(range(12))
    edit = ClampEdit(features, "scale", torch.full((12,), 3.0))
    held = EncoderNullSpace([[features]], D_MODEL).project(delta)
    before, after = reads(world, edit, held, kind)
    assert torch.allclose(before, after, atol=2e-4)
    assert not torch.allclose(before, reads(world, edit, 0 * delta, kind)[0], atol=1e-2), "the write does something"
    before, after = reads(world, edit, delta, kind)
    assert not torch.allclose(before, after, atol=1e-2)


def test_they_differ_when_the_error_term_is_dropped(world: Any) -> None:
    _, dictionary, _, delta = world
    features = dictionary.features(range(12))
    edit = ClampEdit(features, "zero", torch.zeros(12), reconstruction=dictionary)
    held = EncoderNullSpace([[features]], D_MODEL).project(delta)
    before, after = reads(world, edit, held)
    assert not torch.allclose(before, after, atol=1e-2), "what the SAE does not explain is lost before, kept after"
