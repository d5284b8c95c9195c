"""Direction ablation removes one component of the stream and nothing else; LEACE removes every linear trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Fitting
from benchmark.errors import UsageError
from benchmark.sites import Site
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace
from tests.defenses.world import ABOVE, HERE, Alone, Lopsided, fit, place, seen, stream, world
from tests.tiny import LAYERS, SITE


def difference(fitting: Fitting) -> Tensor:
    means = [fitting.streams(HERE, some).mean(0) for some in (fitting.examples, fitting.retain)]
    return (means[0] - means[1]) / (means[0] - means[1]).norm()


def test_the_component_along_the_difference_of_means_is_gone_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Lopsided())
    edit = DirectionAblation().fit(fitting).edits[HERE]
    r, h = difference(fitting), stream()
    once = edit(h, place(h))
    assert (once[:, 1:] @ r).abs().max() < 1e-5 < (h[:, 1:] @ r).abs().max()
    across = torch.linalg.qr(torch.cat([r[:, None], torch.eye(len(r))], 1))[0][:, 1:]
    assert torch.allclose(once @ across, h @ across, atol=1e-5)
    assert torch.allclose(edit(once, place(h)), once, atol=1e-5)
    assert torch.equal(once[:, 0], h[:, 0]), "BOS is spared"


def test_all_sites_lose_the_direction_of_one(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Lopsided())
    fitted = DirectionAblation(sites=("all",), source=SITE).fit(fitting)
    assert sorted(site.boundary for site in fitted.edits) == list(range(LAYERS + 1))
    for site in fitted.edits:
        left = fitting.streams(site, fitting.examples[:4], at="tokens", edits=fitted.edits) @ difference(fitting)
        assert left.abs().max() < 1e-4
    few = DirectionAblation(sites=(str(HERE), str(ABOVE))).fit(fitting)
    assert list(few.edits) == [HERE, ABOVE] and few.record["sites"] == [str(HERE), str(ABOVE)]


@pytest.mark.parametrize("recipe", [DirectionAblation(), Leace()])
def test_without_a_retain_set_there_is_no_difference(recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no retain set"):
        fit(recipe, world(tmp_path)[0], Alone())


@pytest.mark.parametrize("kind", [DirectionAblation, Leace])
def test_a_site_that_does_not_exist_is_named(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="blocks.40.hook_resid_pre is outside"):
        fit(kind(sites=("blocks.40.hook_resid_pre",)), world(tmp_path)[0], Lopsided())
    with pytest.raises((UsageError, ValueError), match="'here' is not a residual-stream site"):
        kind(sites=("here",))


def linear_trace(fitting: Fitting, site: Site, edits: Any) -> float:
    """Distance between the classes' means, in standard deviations along it: 0 where no linear probe beats a constant
    (LEACE, theorem 3.1)."""
    sides = (fitting.examples, fitting.retain)
    here, rest = (fitting.streams(site, some, at="tokens", edits=edits) for some in sides)
    gap = here.double().mean(0) - rest.double().mean(0)
    return float(gap.norm() / torch.cat([here, rest]).double().std(0).norm())


def test_no_linear_trace_of_the_task_is_left_at_any_erased_site(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Lopsided())
    fitted = Leace(sites=(str(ABOVE), str(HERE))).fit(fitting)
    assert list(fitted.edits) == [HERE, ABOVE] and fitted.record["ranks"] == [1, 1]
    for site in (HERE, ABOVE):
        assert linear_trace(fitting, site, {}) > 0.02, "there is one to begin with"
        assert linear_trace(fitting, site, fitted.edits) < 1e-5
    lower = Leace().fit(fitting)
    assert linear_trace(fitting, ABOVE, lower.edits) > 0.02, "later layers bring it back: hence one a site"


def test_the_eraser_keeps_the_mean_and_changes_less_than_the_direction_of_means_removed(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Lopsided())
    edit = Leace().fit(fitting).edits[HERE]
    h = fitting.streams(HERE, [*fitting.examples, *fitting.retain], at="tokens")[None]
    where = place(h)
    where = where.__class__(where.index, torch.zeros_like(where.special), where.generated)
    assert torch.allclose(edit(h, where).mean(1), h.mean(1), atol=1e-4)
    assert float((edit(h, where) - h).norm() / h.norm()) < 0.3


def test_a_missing_package_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "concept_erasure", None)
    with pytest.raises(UsageError, match=r"pip install 'recoverybench\[leace\]'"):
        fit(Leace(), world(tmp_path)[0], Lopsided())
