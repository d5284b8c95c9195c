"""Writing before and after an edit: the same where the clamp does not see the write, else not (METHOD section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.model.edits import by_boundary
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, TailPass, Writes
from benchmark.sae.dictionary import open_dictionary
from benchmark.search.constraint import EncoderNullSpace
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from tests.tiny import D_MODEL, SITE, ToyTask, sae_folder, subject

HERE = Site.parse(SITE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = subject(saes={SITE: sae_folder(tmp_path_factory.mktemp("sae"))})
    features = open_dictionary(made, HERE).features(range(12))
    pack = max(make_packs(made, ToyTask(), ToyTask().examples("test"), 8), key=len)
    delta = 3 * torch.randn(len(pack), 1, 1, D_MODEL, generator=torch.Generator().manual_seed(0))
    return made, features, pack, delta


def reads(world: Any, edit: Any, delta: torch.Tensor, kind: Any = FullPass) -> tuple[torch.Tensor, torch.Tensor]:
    """Readouts with ``delta`` written before and after the edit."""
    made, _, pack, _ = world
    rows, edits = torch.arange(len(pack)), by_boundary(made, {HERE: edit})
    sides = (Writes((HERE.boundary,), pack.readout, 1, after) for after in (False, True))
    before, after = (kind(made, pack, edits, side)(delta, rows).read for side in sides)
    return before, after


@pytest.mark.parametrize("kind", [FullPass, TailPass])
@pytest.mark.parametrize("mode", ["zero", "set", "set_if_active", "scale"])
def test_before_and_after_agree_for_an_orthogonal_write(world: Any, mode: Any, kind: Any) -> None:
    _, features, _, delta = world
    edit = ClampEdit(features, mode, torch.full((12,), 2.0))
    held = EncoderNullSpace([[features]], D_MODEL).project(delta)
    before, after = reads(world, edit, held, kind)
    assert torch.allclose(before, after, atol=2e-4)
    assert not torch.allclose(before, reads(world, edit, 0 * delta, kind)[0], atol=1e-2), "the write does something"


def test_they_differ_for_a_write_that_the_clamp_sees(world: Any) -> None:
    _, features, _, delta = world
    before, after = reads(world, ClampEdit(features, "scale", torch.full((12,), 3.0)), delta)
    assert not torch.allclose(before, after, atol=1e-2)


def test_they_differ_when_the_error_term_is_dropped(world: Any, tmp_path: Path) -> None:
    made, features, _, delta = world
    edit = ClampEdit(features, "zero", torch.zeros(12), reconstruction=open_dictionary(made, HERE))
    held = EncoderNullSpace([[features]], D_MODEL).project(delta)
    before, after = reads(world, edit, held)
    assert not torch.allclose(before, after, atol=1e-2), "what the SAE does not explain is lost before, kept after"
